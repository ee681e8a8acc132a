"""A layout is an image as data: which sprite stands where, in which shade, on what; and its pixels.

Both grammars make one of a scene, so that whoever holds it can render it again, whole or with an
object moved: `render_layout` is a function of the layout and the art alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from dcar_eval.scenes.backgrounds import paint_background
from dcar_eval.scenes.sprites import Shade, Sprites, visible_box
from dcar_eval.scenes.world import COLORS, PLAIN

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are the first column and row outside."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """An object of a layout: its sprite, and the square of pixels that the sprite fills."""

    name: str
    x: int
    """Left of the square; it may lie outside of the image, and so may the rest."""
    y: int
    """Top of the square."""
    side: int
    color: str | None = None
    """One of `world.COLORS`; None: as its sprite is."""
    shade: Shade | None = None
    """The sRGB that it is painted in, where it is not the color's own."""
    style: str = PLAIN
    """One of `sprites.STYLES`."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All that its pixels depend on, besides the art."""

    size: int
    """Pixels a side."""
    background: str
    """A name of `dcar_eval.scenes.backgrounds`."""
    objects: tuple[Placement, ...]
    """From the one that lies behind all others to the one in front."""


def render_layout(layout: Layout, sprites: Sprites) -> Image.Image:
    """The image in pixels, RGB."""
    image = paint_background(layout.background, layout.size)
    for thing in layout.objects:
        sprite = sprite_of(thing, sprites)
        image.paste(sprite, (thing.x, thing.y), sprite)
    return image


def sprite_of(thing: Placement, sprites: Sprites) -> Image.Image:
    """What is pasted at the object's square, RGBA."""
    if thing.shade is None and thing.style == PLAIN:
        return sprites.get(thing.name, thing.color, thing.side)
    shade = thing.shade or (COLORS[thing.color] if thing.color else None)
    return sprites.in_shade(thing.name, thing.style, shade, thing.side)


def box_of(thing: Placement, sprites: Sprites) -> Box:
    """The box of an object's own pixels, also of those that another hides."""
    left, top, right, bottom = visible_box(sprite_of(thing, sprites))
    return thing.x + left, thing.y + top, thing.x + right, thing.y + bottom

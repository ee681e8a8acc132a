"""A scene as pixels, on a coarse grid, with exact boxes.

Sizes and places are whole cells of an 8 x 8 grid. At 256 px a cell is one 32 px token of the
tokenizer, and the places are few, which keeps the number of different tokens small: what makes the
world learnable on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from dcar_eval.scenes.backgrounds import paint_background
from dcar_eval.scenes.sprites import Sprites, visible_box
from dcar_eval.scenes.world import Scene

CELLS = 8
SIDE = 4
"""Cells of an object's side, always: half of the picture."""
FILL = 0.94
"""Share of its square that a sprite is given, so that neighbours never touch."""

Square = tuple[int, int]
"""Column and row of an object's first cell."""
LEFT, RIGHT, ABOVE, BELOW = (0, 2), (4, 2), (2, 0), (2, 4)
ARRANGEMENTS: dict[int, tuple[Square, ...]] = {
    1: ((2, 2),),
    2: (LEFT, RIGHT),
    3: (ABOVE, (0, 4), (4, 4)),
    4: ((0, 0), (4, 0), (0, 4), (4, 4)),
}
"""Where so many objects stand, in the order of reading."""


@dataclass(frozen=True)
class Placed:
    """Where an object is: its square in pixels, and the box of what is visible in it."""

    x: int
    y: int
    side: int
    box: tuple[int, int, int, int]


def arrange(scene: Scene) -> list[Square]:
    """The square of each object: without a relation, in the order of reading."""
    if len(scene.objects) == 2 and scene.relation is not None:
        here, there = (ABOVE, BELOW) if scene.relation in ("above", "below") else (LEFT, RIGHT)
        return [here, there] if scene.relation in ("above", "left of") else [there, here]
    return list(ARRANGEMENTS[len(scene.objects)])


def render(
    scene: Scene,
    squares: list[Square],
    background: str,
    sprites: Sprites,
    size: int,
) -> tuple[Image.Image, list[Placed]]:
    """Compose the picture (RGB) and say where everything is.

    Args:
        scene: what is in it.
        squares: of `arrange`.
        background: a name of `dcar_eval.scenes.backgrounds`.
        sprites: the artwork.
        size: side in pixels, a multiple of 8.
    """
    cell = size // CELLS
    picture = paint_background(background, size)
    placed = []
    for thing, (column, row) in zip(scene.objects, squares, strict=True):
        inner = round(SIDE * cell * FILL)
        margin = (SIDE * cell - inner) // 2
        sprite = sprites.get(thing.name, thing.colour, inner)
        x, y = column * cell + margin, row * cell + margin
        picture.paste(sprite, (x, y), sprite)
        left, top, right, bottom = visible_box(sprite)
        placed.append(Placed(x, y, inner, (x + left, y + top, x + right, y + bottom)))
    return picture, placed

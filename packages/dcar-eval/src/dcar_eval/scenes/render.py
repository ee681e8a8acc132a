"""A scene as pixels, on a coarse grid, with exact boxes.

Sizes and places are whole cells of an 8 x 8 grid. At 256 px a cell is one 32 px token of the
tokenizer, which keeps the number of different tokens small: what makes the world learnable on two
cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import COLOURS, Scene, Task

CELLS = 8
FILL = 0.94
"""Share of its square that a sprite is given, so that neighbours never touch."""

BACKGROUNDS = {
    "mist": ((222, 228, 236), (206, 214, 226)),
    "sky": ((176, 210, 240), (208, 228, 246)),
    "mint": ((196, 230, 208), (176, 216, 192)),
    "sand": ((238, 222, 188), (226, 206, 168)),
    "rose": ((246, 214, 216), (234, 196, 202)),
    "lilac": ((216, 206, 240), (200, 188, 230)),
    "slate": ((118, 130, 150), (96, 108, 128)),
    "teal": ((92, 150, 154), (72, 128, 134)),
}
"""Soft vertical gradients, top and bottom."""
CONTRAST = 70
"""Least distance, in the channel where it is largest, of a background from an object's colour."""


@dataclass(frozen=True)
class Placed:
    """Where an object is: its square in pixels, and the box of what is visible in it."""

    x: int
    y: int
    side: int
    box: tuple[int, int, int, int]


def draw_layout(scene: Scene, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """A square (column, row, side) in cells for each object, none overlapping."""
    if len(scene.objects) == 1:
        side = int(rng.choice([4, 6]))
        return [(_near_centre(side, rng), _near_centre(side, rng), side)]
    side = int(rng.choice([3, 4]))
    slack_x, slack_y = (int(v) for v in rng.integers(0, 4 - side + 1, 2))
    if scene.task is Task.COUNTING:
        quadrants = sorted(int(q) for q in rng.choice(4, len(scene.objects), replace=False))
        return [(q % 2 * 4 + slack_x, q // 2 * 4 + slack_y, side) for q in quadrants]
    across = _near_centre(side, rng)
    relation = scene.relation or str(rng.choice(["left of", "right of", "above", "below"]))
    if relation in ("left of", "right of"):
        places = [(slack_x, across, side), (4 + slack_x, across, side)]
    else:
        places = [(across, slack_y, side), (across, 4 + slack_y, side)]
    return places if relation in ("left of", "above") else places[::-1]


def _near_centre(side: int, rng: np.random.Generator) -> int:
    """First cell of a square of this side, at most a cell away from the middle."""
    return (CELLS - side) // 2 + int(rng.integers(-1, 2))


def draw_background(scene: Scene, rng: np.random.Generator) -> str:
    """A background that stands apart from every colour that is asked for.

    Where two colours leave none at `CONTRAST`, it is the one that comes closest.
    """
    wanted = [COLOURS[thing.colour] for thing in scene.objects if thing.colour]

    def contrast(name: str) -> int:
        distances = [
            max(abs(a - b) for a, b in zip(shade, colour, strict=True))
            for shade in BACKGROUNDS[name]
            for colour in wanted
        ]
        return min(distances, default=CONTRAST)

    contrasts = {name: contrast(name) for name in BACKGROUNDS}
    enough = min(CONTRAST, max(contrasts.values()))
    return str(rng.choice([name for name, value in contrasts.items() if value >= enough]))


def render(
    scene: Scene,
    layout: list[tuple[int, int, int]],
    background: str,
    sprites: Sprites,
    size: int,
) -> tuple[Image.Image, list[Placed]]:
    """Compose the picture (size x size, RGB) and say where everything is."""
    picture = paint_background(background, size)
    cell = size // CELLS
    placed = []
    for thing, (column, row, side) in zip(scene.objects, layout, strict=True):
        inner = round(side * cell * FILL)
        margin = (side * cell - inner) // 2
        sprite = sprites.get(thing.name, thing.colour, inner)
        x, y = column * cell + margin, row * cell + margin
        picture.paste(sprite, (x, y), sprite)
        left, top, right, bottom = visible_box(sprite)
        placed.append(Placed(x, y, inner, (x + left, y + top, x + right, y + bottom)))
    return picture, placed


def visible_box(sprite: Image.Image) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of what is more than half opaque."""
    opaque = sprite.getchannel("A").point([0] * 128 + [255] * 128)
    return opaque.getbbox() or (0, 0, 0, 0)


def paint_background(name: str, size: int) -> Image.Image:
    """A vertical gradient, size x size."""
    top, bottom = (np.array(shade, dtype=np.float32) for shade in BACKGROUNDS[name])
    level = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    column = (top + (bottom - top) * level).round().astype(np.uint8)
    return Image.fromarray(np.repeat(column[:, None], size, axis=1))

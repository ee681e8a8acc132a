"""A scene as pixels, on a coarse grid, with exact boxes.

Sizes and places are whole cells of an 8 x 8 grid. At 256 px a cell is one 32 px token of the
tokenizer, which keeps the number of different tokens small: what makes the world learnable on two
cores. A close-up has 4 x 4 cells; at 128 px they are the same 32 px.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from dcar_eval.scenes.backgrounds import paint_background
from dcar_eval.scenes.sprites import Sprites, visible_box
from dcar_eval.scenes.world import Scene

CELLS = 8
CLOSE_UP_CELLS = 4
"""Of a close-up: one object alone, at the scale that it has among others on the whole grid."""
FILL = 0.94
"""Share of its square that a sprite is given, so that neighbours never touch."""


@dataclass(frozen=True)
class Placed:
    """Where an object is: its square in pixels, and the box of what is visible in it."""

    x: int
    y: int
    side: int
    box: tuple[int, int, int, int]


def draw_layout(
    scene: Scene, rng: np.random.Generator, cells: int = CELLS
) -> list[tuple[int, int, int]]:
    """A square (column, row, side) in cells for each object, none overlapping.

    Args:
        scene: what is to be placed; for `CLOSE_UP_CELLS` a single object.
        rng: what decides.
        cells: cells across the picture, `CELLS` or `CLOSE_UP_CELLS`.
    """
    if cells == CLOSE_UP_CELLS:
        side = int(rng.choice([3, 4]))
        column, row = (int(v) for v in rng.integers(0, cells - side + 1, 2))
        return [(column, row, side)]
    if len(scene.objects) == 1:
        side = int(rng.choice([4, 6]))
        return [(_near_centre(side, rng), _near_centre(side, rng), side)]
    side = int(rng.choice([3, 4]))
    slack_x, slack_y = (int(v) for v in rng.integers(0, 4 - side + 1, 2))
    if scene.objects[0].name == scene.objects[1].name:
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


def render(
    scene: Scene,
    layout: list[tuple[int, int, int]],
    background: str,
    sprites: Sprites,
    size: int,
    cells: int = CELLS,
) -> tuple[Image.Image, list[Placed]]:
    """Compose the picture (size x size, RGB) and say where everything is.

    Args:
        scene: what is in it.
        layout: of `draw_layout`, with the same `cells`.
        background: a name of `dcar_eval.scenes.backgrounds`.
        sprites: the artwork.
        size: side in pixels, a multiple of `cells`.
        cells: cells across the picture.
    """
    picture = paint_background(background, size)
    cell = size // cells
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

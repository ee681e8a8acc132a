"""A scene as pixels, on a coarse grid, with exact boxes.

Sizes and places are whole cells of an 8 x 8 grid. At 256 px a cell is one 32 px token of the
tokenizer, which keeps the number of different tokens small: what makes the world learnable on two
cores. A window is some of these cells, cut out of the whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from dcar_eval.scenes.backgrounds import paint_background
from dcar_eval.scenes.sprites import Sprites, visible_box
from dcar_eval.scenes.world import WHOLE, Cells, Scene

CELLS = 8
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
    scene: Scene, rng: np.random.Generator, cells: Cells = WHOLE
) -> list[tuple[int, int, int]]:
    """A square (column, row, side) in cells for each object, none overlapping.

    Args:
        scene: what is to be placed; it must fit.
        rng: what decides.
        cells: columns and rows of the picture: the whole or a window.
    """
    if len(scene.objects) == 1:
        if cells == WHOLE:
            return [(_near_centre(4, rng), _near_centre(4, rng), 4)]
        side = int(rng.choice([3, 4]))
        column, row = (int(v) for v in rng.integers(0, 4 - side + 1, 2))
        return [(column, row, side)]
    side = int(rng.choice([3, 4]))
    slack_x, slack_y = (int(v) for v in rng.integers(0, 4 - side + 1, 2))
    if cells == WHOLE and scene.objects[0].name == scene.objects[1].name:
        quadrants = sorted(int(q) for q in rng.choice(4, len(scene.objects), replace=False))
        return [(q % 2 * 4 + slack_x, q // 2 * 4 + slack_y, side) for q in quadrants]
    relations = {(8, 4): ["left of", "right of"], (4, 8): ["above", "below"]}
    relation = scene.relation or str(
        rng.choice(relations.get(cells, ["left of", "right of", "above", "below"]))
    )
    if relation in ("left of", "right of"):
        across = _near_centre(side, rng) if cells == WHOLE else slack_y
        places = [(slack_x, across, side), (4 + slack_x, across, side)]
    else:
        across = _near_centre(side, rng) if cells == WHOLE else slack_x
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
    cells: Cells = WHOLE,
    origin: tuple[int, int] = (0, 0),
) -> tuple[Image.Image, list[Placed]]:
    """Compose the picture (RGB) and say where everything is.

    Args:
        scene: what is in it.
        layout: of `draw_layout`, with the same `cells`.
        background: a name of `dcar_eval.scenes.backgrounds`.
        sprites: the artwork.
        size: side in pixels of a whole picture, a multiple of 8; a window is the smaller for it.
        cells: columns and rows of the picture: the whole or a window.
        origin: column and row of the window's first cell in the whole picture: which part of the
            background it shows.
    """
    cell = size // CELLS
    (columns, rows), (column, row) = cells, origin
    left, top, right, bottom = (edge * cell for edge in (column, row, column + columns, row + rows))
    picture = paint_background(background, size).crop((left, top, right, bottom))
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

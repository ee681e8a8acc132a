"""Where the objects of a standard scene stand: on a coarse grid.

Sizes and places are whole cells of an 8 x 8 grid. At 256 px a cell is one 32 px token of the
tokenizer, and the places are few, which keeps the number of different tokens small: what makes the
world learnable on two cores.
"""

from __future__ import annotations

from dcar_eval.scenes.layout import Layout, Placement
from dcar_eval.scenes.world import Scene

CELLS = 8
SIDE = 4
"""Cells of an object's side, always: half of the image."""
FILL = 0.94
"""Share of its square that a sprite is given, so that neighbors never touch."""

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


def arrange(scene: Scene) -> list[Square]:
    """The square of each object: without a relation, in the order of reading."""
    if len(scene.objects) == 2 and scene.relation is not None:
        here, there = (ABOVE, BELOW) if scene.relation in ("above", "below") else (LEFT, RIGHT)
        return [here, there] if scene.relation in ("above", "left of") else [there, here]
    return list(ARRANGEMENTS[len(scene.objects)])


def on_grid(scene: Scene, squares: list[Square], background: str, size: int) -> Layout:
    """The scene as an image.

    Args:
        scene: what is in it.
        squares: of `arrange`.
        background: a name of `dcar_eval.scenes.backgrounds`.
        size: side in pixels, a multiple of 8.
    """
    cell = size // CELLS
    side = round(SIDE * cell * FILL)
    margin = (SIDE * cell - side) // 2
    objects = tuple(
        Placement(
            name=thing.name,
            color=thing.color,
            x=column * cell + margin,
            y=row * cell + margin,
            side=side,
        )
        for thing, (column, row) in zip(scene.objects, squares, strict=True)
    )
    return Layout(size=size, background=background, objects=objects)

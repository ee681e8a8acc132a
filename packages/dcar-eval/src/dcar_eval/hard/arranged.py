"""Where the objects of a sentence stand when it leaves nothing open: in the order of the words.

The standard grammar's arrangements, told on: places and sides follow from what is said, so that a
sentence has one picture for each background. A small model learns these first.
"""

from __future__ import annotations

from dcar_eval.hard.grammar import Group, HardScene, Relation
from dcar_eval.scenes.captions import OPPOSITES
from dcar_eval.scenes.grid import ARRANGEMENTS, CELLS, FILL, SIDE

THIRD = CELLS / 3
"""Cells of the side of what is small, and of each of more than four or of three in a row."""
LARGE, BESIDE_LARGE = 5.0, 3.0
"""Of what is large, and of what stands beside it, where there are two at most."""

Center = tuple[float, float]
"""Column and row, in cells."""
Share = tuple[float, float, float]
"""Left, top and side of a square, as shares of the image's side."""
_COLUMNS = tuple(THIRD * (k + 0.5) for k in range(3))
CENTERS: dict[int, tuple[Center, ...]] = {
    **{
        count: tuple((column + SIDE / 2, row + SIDE / 2) for column, row in squares)
        for count, squares in ARRANGEMENTS.items()
    },
    5: (*((x, THIRD) for x in _COLUMNS), (THIRD, 2 * THIRD), (2 * THIRD, 2 * THIRD)),
    6: tuple((x, y) for y in (THIRD, 2 * THIRD) for x in _COLUMNS),
}
"""Of so many objects, in the order of reading."""


def arrange(scene: HardScene) -> list[tuple[int, Share]] | None:
    """The number of each object's group, and its square; None: something is too large for it."""
    numbers = [number for number, group in enumerate(scene.groups) for _ in range(group.count)]
    kinds = [scene.groups[number] for number in numbers]
    in_a_row = len(scene.relations) == 2 and _directions(scene)[0] == _directions(scene)[1]
    crowded = len(kinds) > 4 or in_a_row
    if crowded and any(kind.size == "large" for kind in kinds):
        return None
    sides = [THIRD if crowded else _side(kind, kinds) for kind in kinds]
    if len(scene.relations) == 2:
        centers = _around(scene)
    elif len(kinds) == 2:
        centers = _opposite(sides, scene.relations)
    else:
        centers = list(CENTERS[len(kinds)])
    return [
        (number, ((x - side / 2) / CELLS, (y - side / 2) / CELLS, side / CELLS))
        for number, (x, y), side in zip(numbers, centers, (FILL * s for s in sides), strict=True)
    ]


def _side(kind: Group, kinds: list[Group]) -> float:
    """Cells of an object's side, where each has a quarter of the image or more."""
    if kind.size == "small":
        return THIRD
    large = [other.size for other in kinds].count("large")
    if large != 1 or len(kinds) > 2:
        return SIDE
    return LARGE if kind.size == "large" else BESIDE_LARGE


def _opposite(sides: list[float], relations: tuple[Relation, ...]) -> list[Center]:
    """Two objects at two edges: left and right, if nothing else is said."""
    relation = relations[0][1] if relations else "left of"
    first, second = sides
    if relation in ("right of", "below"):
        places = CELLS - first / 2, second / 2
    else:
        places = first / 2, CELLS - second / 2
    middle = CELLS / 2
    if relation in ("above", "below"):
        return [(middle, place) for place in places]
    return [(place, middle) for place in places]


def _directions(scene: HardScene) -> list[str]:
    """Whether each of two relations goes across or down."""
    return ["down" if r in ("above", "below") else "across" for _, r, _ in scene.relations]


def _around(scene: HardScene) -> list[Center]:
    """Three objects, of which two relations share one: that in the middle, or in a corner."""
    (a, here, b), (c, there, d) = scene.relations
    if a == c:
        shared, (first, here), (second, there) = a, (b, OPPOSITES[here]), (d, OPPOSITES[there])
    else:
        shared, first, second = b, a, c
    step = THIRD if _directions(scene)[0] == _directions(scene)[1] else SIDE
    away = {"left of": (-step, 0), "right of": (step, 0), "above": (0, -step), "below": (0, step)}
    offsets = {shared: (0.0, 0.0), first: away[here], second: away[there]}
    middle = CELLS / 2
    centers = [offsets[number] for number in sorted(offsets)]
    xs, ys = ([center[axis] for center in centers] for axis in (0, 1))
    x0, y0 = middle - (max(xs) + min(xs)) / 2, middle - (max(ys) + min(ys)) / 2
    return [(x + x0, y + y0) for x, y in centers]

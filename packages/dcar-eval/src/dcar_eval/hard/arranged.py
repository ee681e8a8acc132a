"""Where the objects of a sentence stand when it leaves nothing open: in the order of the words.

The standard grammar's arrangements, told on: places and sides follow from what is said, so that a
sentence has one picture for each background. Sides are few, and every center is a corner of four
cells, so that an object of one side is the same tokens wherever it stands. A small model learns
these first.
"""

from __future__ import annotations

from dcar_eval.hard.grammar import Group, HardScene, Relation
from dcar_eval.scenes.captions import OPPOSITES
from dcar_eval.scenes.grid import ARRANGEMENTS, CELLS, FILL, SIDE

SMALL, LARGE = 2.2, 5.0
"""Cells of the side of what is small, or one of many; and of what is large. Others have `SIDE`."""
MIDDLE = CELLS // 2
NEAR = 3
"""Cells between the centers of three in a row, and from the edge to the center of what is large."""

Center = tuple[int, int]
"""Column and row of the corner between four cells."""
Share = tuple[float, float, float]
"""Left, top and side of a square, as shares of the image's side; its rim may lie outside."""
_THREE = (MIDDLE - NEAR, MIDDLE, MIDDLE + NEAR)
CENTERS: dict[int, tuple[Center, ...]] = {
    **{
        count: tuple((column + SIDE // 2, row + SIDE // 2) for column, row in squares)
        for count, squares in ARRANGEMENTS.items()
    },
    5: (*((x, 2) for x in _THREE), (2, 6), (6, 6)),
    6: tuple((x, y) for y in (2, 6) for x in _THREE),
}
"""Of so many objects, in the order of reading."""


def arrange(scene: HardScene) -> list[tuple[int, Share]] | None:
    """The number of each object's group, and its square; None: something is too large for it."""
    numbers = [number for number, group in enumerate(scene.groups) for _ in range(group.count)]
    kinds = [scene.groups[number] for number in numbers]
    crowded = len(kinds) > 4 or (len(scene.relations) == 2 and _in_a_row(scene))
    if crowded and any(kind.size == "large" for kind in kinds):
        return None
    sides = [SMALL if crowded else _side(kind, kinds) for kind in kinds]
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
        return SMALL
    large = [other.size for other in kinds].count("large")
    if large != 1 or len(kinds) > 2:
        return SIDE
    return LARGE if kind.size == "large" else SMALL


def _opposite(sides: list[float], relations: tuple[Relation, ...]) -> list[Center]:
    """Two objects beside each other: left and right, if nothing else is said."""
    relation = relations[0][1] if relations else "left of"
    in_order = relation in ("left of", "above")
    first, second = sides if in_order else sides[::-1]
    places = [SIDE // 2, CELLS - SIDE // 2]
    if LARGE in sides:
        places = [NEAR, NEAR + SIDE] if first > second else [CELLS - NEAR - SIDE, CELLS - NEAR]
    if not in_order:
        places.reverse()
    if relation in ("above", "below"):
        return [(MIDDLE, place) for place in places]
    return [(place, MIDDLE) for place in places]


def _in_a_row(scene: HardScene) -> bool:
    """Whether two relations both go across, or both down."""
    (_, here, _), (_, there, _) = scene.relations
    return (here in ("above", "below")) == (there in ("above", "below"))


def _around(scene: HardScene) -> list[Center]:
    """Three objects, of which two relations share one: that in the middle, or in a corner."""
    (a, here, b), (c, there, d) = scene.relations
    if a == c:
        shared, first, second = a, b, d
        here, there = OPPOSITES[here], OPPOSITES[there]
    else:
        shared, first, second = b, a, c
    row = _in_a_row(scene)
    step = NEAR if row else SIDE
    away = {"left of": (-step, 0), "right of": (step, 0), "above": (0, -step), "below": (0, step)}
    (x1, y1), (x2, y2) = away[here], away[there]
    corner = (0, 0) if row else (-(x1 + x2) // 2, -(y1 + y2) // 2)
    offsets = {shared: corner, first: (corner[0] + x1, corner[1] + y1)}
    offsets[second] = (corner[0] + x2, corner[1] + y2)
    return [(MIDDLE + offsets[number][0], MIDDLE + offsets[number][1]) for number in (0, 1, 2)]

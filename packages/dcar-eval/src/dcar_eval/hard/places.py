"""Where the objects of a scene stand: anywhere, in any size, a quarter hidden at most; or arranged.

Shapes are compared on a coarse raster of opaque cells, so that what hides a quarter of a box but
none of the sprite's own pixels is allowed.
"""

from __future__ import annotations

import numpy as np

from dcar_eval.geneval import relations
from dcar_eval.hard.arranged import arrange
from dcar_eval.hard.grammar import Group, HardScene
from dcar_eval.hard.held_out import held_out
from dcar_eval.hard.judge import LARGE
from dcar_eval.scenes.backgrounds import choose_background, sample_textured
from dcar_eval.scenes.captions import OPPOSITES
from dcar_eval.scenes.held_out import Combination, placed
from dcar_eval.scenes.layout import Layout, Placement
from dcar_eval.scenes.sprites import Shade, Sprites
from dcar_eval.scenes.things import same_things
from dcar_eval.scenes.world import COLORS, RELATIONS
from dcht.errors import UsageError

RASTER = 64
"""Cells a side of the image when shapes are compared."""
HIDDEN = 0.25
"""Greatest share of an object's cells that others may hide; two never share more of either."""
SIDES = {1: (0.2, 0.55), 2: (0.2, 0.55), 3: (0.2, 0.46), 4: (0.2, 0.4), 5: (0.2, 0.36)}
"""Least and greatest of the longer side of what is visible, as a share of the image, by how many
there are; six are as five."""
SIZE_SIDES = {"small": (0.2, 0.3), "large": (0.43, 0.55)}
SPREAD = 24
"""Greatest difference of a shade from its color, in each channel."""
THRESHOLDS = (0.1, 0.2)
"""A relation must hold by GenEval's rule as it is, and by a stricter one."""
TRIES = 40
"""Places that are tried for an object before all begin anew, a little smaller."""
ATTEMPTS = 1000


class NoRoomError(UsageError):
    """No arrangement of a scene was found: too much is held out of it, or it is too crowded."""


Square = tuple[int, int, int]
"""Left, top and side, in pixels."""


def sample_layout(
    scene: HardScene, sprites: Sprites, size: int, rng: np.random.Generator, *,
    strict: bool = True, arranged: bool = False,
) -> tuple[Layout, list[int]]:  # fmt: skip
    """The scene in an image of `size` pixels, and the number of each object's group.

    With `strict`, no two objects stand, unsaid, in a relation that is held out. With `arranged`,
    places and sides are those of `dcar_eval.hard.arranged`, colors GenEval's own, backgrounds
    plain.

    Raises:
        NoRoomError: no arrangement was found.
    """
    groups = [number for number, group in enumerate(scene.groups) for _ in range(group.count)]
    if not arranged:
        groups = [groups[k] for k in rng.permutation(len(groups))]
    kinds = [scene.groups[number] for number in groups]
    room = _Room(scene, groups, sprites, size, held_out() if strict else frozenset())
    if arranged:
        shades: list[Shade | None] = [None] * len(kinds)
        background = choose_background([COLORS[kind.color] for kind in kinds if kind.color], rng)
        squares = room.arranged()
    else:
        shades = [sample_shade(kind.color, rng) if kind.color else None for kind in kinds]
        background = sample_textured([shade for shade in shades if shade], rng)
        squares = room.fill(rng)
    objects = tuple(
        Placement(
            name=kind.name, color=kind.color, shade=shade, style=scene.style, x=x, y=y, side=side
        )
        for kind, shade, (x, y, side) in zip(kinds, shades, squares, strict=True)
    )
    return Layout(size=size, background=background, objects=objects), groups


def sample_shade(color: str, rng: np.random.Generator) -> Shade:
    """A shade that anybody would call by the color's name."""
    near = np.array(COLORS[color]) + rng.integers(-SPREAD, SPREAD + 1, 3)
    red, green, blue = near.clip(0, 255).tolist()
    return red, green, blue


class _Room:
    """An image that is being filled, from the back to the front."""

    def __init__(
        self, scene: HardScene, groups: list[int], sprites: Sprites, size: int,
        kept: frozenset[Combination],
    ) -> None:  # fmt: skip
        self.scene, self.groups, self.sprites = scene, groups, sprites
        self.size, self.kept = size, kept

    def fill(self, rng: np.random.Generator) -> list[Square]:
        for attempt in range(ATTEMPTS):
            squares = self._try(rng, 0.97**attempt)
            if squares is not None:
                return squares
        raise NoRoomError(f"no room was found for {self.scene.groups} in {ATTEMPTS} attempts")

    def arranged(self) -> list[Square]:
        """The squares of `dcar_eval.hard.arranged`, if they may be shown."""
        places = arrange(self.scene)
        if places is None:
            raise NoRoomError(f"of {self.scene.groups} something is too large to be arranged")
        squares: list[Square] = []
        shapes: list[np.ndarray] = []
        for number, (left, top, side) in places:
            group = self.scene.groups[number]
            extent = self.sprites.extent(group.name, self.scene.style)
            if group.size == "large" and side * extent < LARGE:
                raise NoRoomError(f"{group} is not large where it is arranged")
            squares.append(
                (round(left * self.size), round(top * self.size), round(side * self.size))
            )
            shape = self._shape(group.name, squares[-1])
            if not self._stands(number, shape, shapes):
                raise NoRoomError(f"as {self.scene.groups} are arranged, a held-out relation shows")
            shapes.append(shape)
        return squares

    def _try(self, rng: np.random.Generator, shrunk: float) -> list[Square] | None:
        squares: list[Square] = []
        shapes: list[np.ndarray] = []
        seen: list[np.ndarray] = []  # of each shape, what is not hidden
        for number in self.groups:
            name = self.scene.groups[number].name
            for x, y, side in self._squares(self.scene.groups[number], shrunk, rng):
                shape = self._shape(name, (x, y, side))
                if not self._stands(number, shape, shapes) or not _fits(shape, shapes, seen):
                    continue
                seen = [cells & ~shape for cells in seen] + [shape]
                shapes.append(shape)
                squares.append((x, y, side))
                break
            else:
                return None
        return squares

    def _squares(self, group: Group, shrunk: float, rng: np.random.Generator) -> list[Square]:
        """What is tried for an object: `TRIES` places of one side."""
        low, high = self._sides(group)
        high = low + (high - low) * shrunk
        extent = self.sprites.extent(group.name, self.scene.style)
        side = round(self.size * float(rng.uniform(low, high)) / extent)
        corners = rng.integers(0, self.size - side + 1, (TRIES, 2))
        return [(x, y, side) for x, y in corners.tolist()]

    def _sides(self, group: Group) -> tuple[float, float]:
        if group.size is not None:
            return SIZE_SIDES[group.size]
        return SIDES[min(len(self.groups), max(SIDES))]

    def _shape(self, name: str, square: Square) -> np.ndarray:
        """The opaque cells, (RASTER, RASTER)."""
        left, top, side = (round(value * RASTER / self.size) for value in square)
        outline = self.sprites.outline(name, self.scene.style, side)
        cells = np.zeros((RASTER, RASTER), dtype=bool)
        # What is arranged may have its rim, where nothing is, outside.
        left, top = (min(max(start, 0), RASTER - side) for start in (left, top))
        cells[top : top + side, left : left + side] = outline
        return cells

    def _stands(self, number: int, shape: np.ndarray, shapes: list[np.ndarray]) -> bool:
        """Whether what is said of its place holds, and nothing that is held out is shown."""
        box = box_of_cells(shape)
        for other, there in zip(self.groups, shapes, strict=False):
            if other == number:
                continue
            wanted = _wanted(self.scene, number, other)
            if wanted is None and not self._is_kept(number, other):
                continue
            shown = [relations(box, box_of_cells(there), limit) for limit in THRESHOLDS]
            if wanted is not None and any(found != [wanted] for found in shown):
                return False
            if wanted is None and any(self._combines(number, r, other) for r in shown[0]):
                return False
        return True

    def _combines(self, first: int, relation: str, second: int) -> bool:
        names = [same_things()[self.scene.groups[number].name] for number in (first, second)]
        return placed(names[0], relation, names[1]) in self.kept

    def _is_kept(self, first: int, second: int) -> bool:
        return any(self._combines(first, relation, second) for relation in RELATIONS)


def _wanted(scene: HardScene, first: int, second: int) -> str | None:
    """How the first group must stand to the second, if anything is said of it."""
    for a, relation, b in scene.relations:
        if (a, b) == (first, second):
            return relation
        if (b, a) == (first, second):
            return OPPOSITES[relation]
    return None


def _fits(shape: np.ndarray, shapes: list[np.ndarray], seen: list[np.ndarray]) -> bool:
    """Whether so much of everything can still be seen."""
    area = shape.sum()
    for other, cells in zip(shapes, seen, strict=True):
        whole = other.sum()
        if (shape & other).sum() > HIDDEN * min(area, whole):
            return False
        if (cells & ~shape).sum() < (1 - HIDDEN) * whole:
            return False
    return True


def box_of_cells(cells: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is True."""
    rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

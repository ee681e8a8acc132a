"""Where the harder grammar's objects stand on the grid; without it the recognizer's tests say."""

import numpy as np
import pytest

from dcar_eval.hard.grammar import Group, HardScene, HardTask
from dcar_eval.hard.places import NoRoomError, box_of_cells, sample_layout
from dcar_eval.hard.sample import sample_hard_scene
from dcar_eval.scenes.backgrounds import SHADES
from dcar_eval.scenes.grid import CELLS, FILL
from dcar_eval.scenes.world import WORLDS, Split

SIZE = 256


class Squares:
    """Art for which a place depends on nothing but its square: a filled one."""

    def __init__(self, extent: float = 1.0) -> None:
        self.seen = extent

    def extent(self, name: str, style: str) -> float:
        return self.seen

    def outline(self, name: str, style: str, side: int) -> np.ndarray:
        return np.ones((side, side), dtype=bool)


def test_on_the_grid_sides_and_places_are_whole_cells_and_nothing_is_hidden() -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(60):
        scene = sample_hard_scene(WORLDS["wide"], Split.TRAIN, rng, None, ("3d",))
        try:
            layout, groups = sample_layout(scene, Squares(), SIZE, rng, on_grid=True)  # type: ignore[arg-type]
        except NoRoomError:  # any two stand in some relation, and it may be held out
            continue
        assert layout.background in SHADES
        taken = np.zeros((CELLS, CELLS), dtype=int)
        for thing, number in zip(layout.objects, groups, strict=True):
            cells = round(thing.side / FILL / (SIZE / CELLS))
            left, top = thing.x // (SIZE // CELLS), thing.y // (SIZE // CELLS)
            assert thing.side == round(cells * (SIZE // CELLS) * FILL)
            assert thing.shade is None
            taken[top : top + cells, left : left + cells] += 1
            seen.add((scene.groups[number].size, cells))
        assert taken.max() == 1
    assert {cells for size, cells in seen if size == "large"} <= {4, 5}
    assert {cells for size, cells in seen if size == "small"} == {2}
    assert {cells for size, cells in seen if size is None} >= {2, 3, 4}


def test_what_is_seen_of_an_object_says_how_many_cells_it_takes() -> None:
    rng = np.random.default_rng(0)
    for size, extent, cells in (("large", 0.8, 5), ("small", 1.0, 2), ("small", 0.7, 3)):
        art = Squares(extent)
        scene = HardScene(task=HardTask.ONE, groups=(Group(name="kite", size=size),))
        layout, _ = sample_layout(scene, art, SIZE, rng, on_grid=True)  # type: ignore[arg-type]
        assert layout.objects[0].side == round(cells * SIZE // CELLS * FILL)


@pytest.mark.parametrize("corner", [(0, 0), (3, 5)])
def test_the_box_of_cells(corner: tuple[int, int]) -> None:
    cells = np.zeros((8, 8), dtype=bool)
    row, column = corner
    cells[row : row + 2, column : column + 3] = True
    assert box_of_cells(cells) == (column, row, column + 3, row + 2)

"""Where the harder grammar's objects stand when arranged; when not, recognizer's tests say it."""

import numpy as np
import pytest

from dcar_eval.geneval import Detection, Options
from dcar_eval.hard.captions import captions
from dcar_eval.hard.grammar import Group, HardScene, HardTask
from dcar_eval.hard.held_out import by_kind
from dcar_eval.hard.judge import judge, metadata
from dcar_eval.hard.places import NoRoomError, box_of_cells, sample_layout
from dcar_eval.hard.sample import sample_hard_scene
from dcar_eval.scenes.backgrounds import SHADES
from dcar_eval.scenes.grid import CELLS
from dcar_eval.scenes.layout import Layout
from dcar_eval.scenes.world import WORLDS, Split

SIZE = 256
CELL = SIZE // CELLS


class Squares:
    """Art for which a place depends on nothing but its square: a filled one."""

    def __init__(self, extent: float = 1.0) -> None:
        self.seen = extent

    def extent(self, name: str, style: str) -> float:
        return self.seen

    def outline(self, name: str, style: str, side: int) -> np.ndarray:
        return np.ones((side, side), dtype=bool)


def arranged(scene: HardScene, art: Squares, *, strict: bool = True) -> tuple[Layout, list[int]]:
    rng = np.random.default_rng(0)
    return sample_layout(scene, art, SIZE, rng, strict=strict, arranged=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", HardTask)
def test_what_is_arranged_shows_what_is_said_and_hides_nothing(task: HardTask) -> None:
    rng, shown = np.random.default_rng(0), 0
    while shown < 25:
        scene = sample_hard_scene(WORLDS["wide"], Split.TRAIN, rng, task)
        try:
            layout, groups = arranged(scene, Squares(0.875))
        except NoRoomError:  # any two stand in some relation, and it may be held out
            continue
        shown += 1
        assert layout.background in SHADES
        taken = np.zeros((SIZE, SIZE), dtype=int)
        found = []
        for thing, number in zip(layout.objects, groups, strict=True):
            assert thing.shade is None
            for start in (thing.x, thing.y):
                off = (start + thing.side / 2) % CELL
                assert min(off, CELL - off) <= 1, (
                    "a center is a corner of the grid, but for rounding"
                )
            margin = round((1 - 0.875) / 2 * thing.side)
            left, top = thing.x + margin, thing.y + margin
            right, bottom = (start + thing.side - margin for start in (thing.x, thing.y))
            assert min(left, top) >= 0, "what is seen of it is inside"
            assert max(right, bottom) <= SIZE
            taken[top:bottom, left:right] += 1
            box = (left, top, right, bottom)
            found.append(
                Detection(
                    class_name=thing.name, score=1.0, box=box, color=scene.groups[number].color
                )
            )
        assert taken.max() == 1
        assert judge(metadata(scene), found, Options(), SIZE).correct


def test_objects_stand_in_the_order_of_the_words_and_the_words_say_all() -> None:
    groups = (Group(name="cup", count=2), Group(name="kite", count=3))
    scene = HardScene(task=HardTask.GROUPS, groups=groups)
    layout, _ = arranged(scene, Squares())
    assert layout.objects == arranged(scene, Squares())[0].objects
    assert [thing.name for thing in layout.objects] == ["cup"] * 2 + ["kite"] * 3
    places = [(thing.y, thing.x) for thing in layout.objects]
    assert places == sorted(places)
    assert all(text.index("cup") < text.index("kite") for text in captions(scene, in_order=True))
    assert not all(text.index("cup") < text.index("kite") for text in captions(scene))


def test_an_arrangement_that_shows_what_is_held_out_gives_way() -> None:
    first, second = next((a, b) for a, r, b in by_kind()["relation"] if r == "left of")
    scene = HardScene(task=HardTask.GROUPS, groups=(Group(name=first), Group(name=second)))
    with pytest.raises(NoRoomError, match="held-out"):
        arranged(scene, Squares())
    arranged(scene, Squares(), strict=False)


@pytest.mark.parametrize("corner", [(0, 0), (3, 5)])
def test_the_box_of_cells(corner: tuple[int, int]) -> None:
    cells = np.zeros((8, 8), dtype=bool)
    row, column = corner
    cells[row : row + 2, column : column + 3] = True
    assert box_of_cells(cells) == (column, row, column + 3, row + 2)

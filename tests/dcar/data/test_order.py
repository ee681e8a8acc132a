from collections import Counter
from itertools import pairwise

import pytest
import torch

from dcar.data import Data, Grid
from dcar.data.captions import Captions
from dcar.data.order import ROUND, Stream, Turns


class Listed:
    """A source of nothing but grids and captions."""

    def __init__(self, grids: list[Grid], captions: Captions | None = None) -> None:
        self.grids = grids
        self.captions = captions or Captions([["x"] for _ in grids], {})
        self.notes: list[str] = []
        self.root = "listed"

    def contents(self) -> str:
        raise NotImplementedError

    def read(self, rows: object) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError


def rows(stream: Stream, steps: range, batch_size: int) -> list[int]:
    return [sample.row for step in steps for sample in stream.batch(step, batch_size)]


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    stream = Stream(0, Data([Listed([(2, 2)] * 10)]))
    epochs = [rows(stream, range(e * 2, e * 2 + 2), 5) for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_one_grid_is_one_sequence_whatever_the_batch_size() -> None:
    data = Data([Listed([(2, 2)] * 10)])
    whole = rows(Stream(4, data), range(24), 1)
    assert rows(Stream(4, data), range(6), 4) == whole
    assert rows(Stream(4, data), range(2), 12) == whole
    assert rows(Stream(5, data), range(24), 1) != whole


def test_a_step_depends_on_seed_and_number_alone() -> None:
    data = Data([Listed([(2, 2), (1, 3), (2, 2), (3, 1)] * 5), Listed([(1, 3)] * 7)], [0.3, 0.7])
    stream = Stream(1, data)
    forwards = [stream.batch(step, 3) for step in range(40)]
    assert [Stream(1, data).batch(step, 3) for step in reversed(range(40))] == forwards[::-1]
    indices = [sample.index for batch in forwards for sample in batch]
    assert indices == list(range(120))


def test_a_batch_has_one_grid_and_grids_come_as_often_as_their_images() -> None:
    data = Data([Listed([(2, 2)] * 60 + [(1, 3)] * 30 + [(3, 1)] * 10)])
    stream = Stream(0, data)
    assert all(
        len({data.grid(sample.row) for sample in stream.batch(step, 8)}) == 1 for step in range(50)
    )
    seen = Counter(data.grid(stream.batch(step, 1)[0].row) for step in range(ROUND))
    assert seen == {(2, 2): 6000, (1, 3): 3000, (3, 1): 1000}
    # Not one grid after the other, and all of a grid's images as often.
    order = [data.grid(stream.batch(step, 1)[0].row) for step in range(1000)]
    assert sum(a != b for a, b in pairwise(order)) > 400
    often = Counter(stream.batch(step, 1)[0].row for step in range(ROUND))
    assert set(often.values()) == {100}


def test_sources_come_by_their_weights() -> None:
    data = Data([Listed([(2, 2)] * 3), Listed([(2, 2)] * 9)], [3, 1])
    often = Counter(rows(Stream(0, data), range(ROUND // 10), 10))
    assert sum(often[row] for row in range(3)) == 7500
    assert [often[row] for row in range(3)] == [2500] * 3
    assert all(270 < often[row] < 285 for row in range(3, 12))
    batch = Counter(sample.row < 3 for sample in Stream(0, data).batch(0, 400))
    assert 260 < batch[True] < 340


def test_without_weights_every_image_is_as_likely() -> None:
    data = Data([Listed([(2, 2)] * 25), Listed([(2, 2)] * 75)])
    often = Counter(rows(Stream(0, data), range(ROUND // 10), 10))
    assert set(often.values()) == {100}


def test_the_smallest_part_has_its_turn() -> None:
    turns = Turns(0, [1e9, 1], key=0)
    whole = int(turns.quotas.sum())
    drawn = [turns.turn(number) for number in range(2 * whole)]
    assert [earlier for who, earlier in drawn if who == 1] == [0, 1]
    assert [earlier for who, earlier in drawn if who == 0] == list(range(2 * whole - 2))


def test_captions_are_drawn_each_time() -> None:
    data = Data([Listed([(2, 2)], Captions([["a", "b", "c"]], {}))])
    drawn = Counter(sample.caption for sample in Stream(0, data).batch(0, 300))
    assert set(drawn) == {"a", "b", "c"} and min(drawn.values()) > 60


def test_captions_are_drawn_by_their_weights() -> None:
    captions = Captions([["never", "seldom", "often"], ["x", "y"]], {0: [0, 1, 4]})
    data = Data([Listed([(2, 2)], Captions([["only"]], {})), Listed([(2, 2)] * 2, captions)])
    assert data.caption_weights == {1: [0, 1, 4]}
    samples = Stream(0, data).batch(0, 3000)
    drawn = Counter(sample.caption for sample in samples if sample.row == 1)
    assert drawn["never"] == 0
    assert drawn["often"] / drawn["seldom"] == pytest.approx(4, rel=0.25)
    assert {sample.caption for sample in samples if sample.row == 0} == {"only"}
    assert {sample.caption for sample in samples if sample.row == 2} == {"x", "y"}

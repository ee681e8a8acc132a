"""The order in which a run sees its data: a function of (seed, step) and nothing else.

So a run resumes exactly, on any number of ranks. A batch shows images of one grid; where there are
several (aspect buckets), each step takes one of them. Within a grid the sources take turns by
their shares, and each goes through its images epoch after epoch, every epoch a permutation of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import torch

from dcar.data import Data
from dcar.randomness import keyed_generator, keyed_seed

ROUND = 10_000
"""Turns after which every part has had its share, which is exact to one in this many."""
PERMUTATION, CAPTION, GRID, SOURCE = 1, 2, 4, 5
"""Last part of the keys of random numbers; training uses 0 and 3."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sample."""

    index: int
    """Its number in the whole run: the key of everything random about it."""
    row: int
    """The image in the data."""
    caption: str


class Stream:
    """The endless sequence of batches that a seed makes of some data."""

    def __init__(self, seed: int, data: Data) -> None:
        self.seed = seed
        self.data = data
        grids = list(dict.fromkeys(part.grid for part in data.parts))
        numbered = list(enumerate(data.parts))
        self._groups = [
            [(number, part) for number, part in numbered if part.grid == grid] for grid in grids
        ]
        shares = [[part.share for _, part in group] for group in self._groups]
        self._grids = Turns(seed, [sum(group) for group in shares], key=GRID)
        self._sources = [
            Turns(seed, group, key=SOURCE, number=number) for number, group in enumerate(shares)
        ]
        self._order = lru_cache(maxsize=2 * len(numbered))(self._permute)

    def batch(self, step: int, batch_size: int) -> list[Sample]:
        """The samples of a step (from 0); all show images of one grid.

        Sample i of it has index `step * batch_size + i`.
        """
        group, earlier = self._grids.turn(step)
        return [
            self._sample(step * batch_size + i, group, earlier * batch_size + i)
            for i in range(batch_size)
        ]

    def _sample(self, index: int, group: int, number: int) -> Sample:
        """Sample `number` of a group of parts."""
        turn, earlier = self._sources[group].turn(number)
        part_number, part = self._groups[group][turn]
        epoch, position = divmod(earlier, len(part.rows))
        row = part.rows[int(self._order(part_number, epoch)[position])]
        return Sample(index, row, self._caption(index, row))

    def _permute(self, part: int, epoch: int) -> torch.Tensor:
        generator = keyed_generator(self.seed, epoch, PERMUTATION, part)
        return torch.randperm(len(self.data.parts[part].rows), generator=generator)

    def _caption(self, index: int, row: int) -> str:
        """One of the image's captions, sampled each time by their weights."""
        texts, weights = self.data.captions[row], self.data.caption_weights.get(row)
        if len(texts) == 1:
            return texts[0]
        sampled = keyed_seed(self.seed, index, CAPTION)
        if weights is None:
            return texts[sampled % len(texts)]
        edges = list(accumulate(weights))
        passed = sum(sampled / 2**63 >= edge / edges[-1] for edge in edges)
        return texts[min(passed, len(texts) - 1)]


class Turns:
    """Whose turn it is when several share a sequence, in a random order that a seed decides."""

    def __init__(self, seed: int, shares: Sequence[float], *, key: int, number: int = 0) -> None:
        self.seed, self.key, self.number = seed, key, number
        whole = sum(shares)
        # At least one: no part may be so small that it is never seen.
        self.quotas = torch.tensor([max(1, round(ROUND * share / whole)) for share in shares])
        self._table = lru_cache(maxsize=2)(self._make_table)

    def turn(self, number: int) -> tuple[int, int]:
        """Who has turn `number` (from 0), and how many turns they had before it."""
        if len(self.quotas) == 1:
            return 0, number
        time, position = divmod(number, int(self.quotas.sum()))
        who, earlier = self._table(time)
        return int(who[position]), int(earlier[position])

    def _make_table(self, time: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = keyed_generator(self.seed, time, self.key, self.number)
        who = torch.arange(len(self.quotas)).repeat_interleave(self.quotas)
        who = who[torch.randperm(len(who), generator=generator)]
        earlier = torch.empty_like(who)
        for part, quota in enumerate(self.quotas.tolist()):
            earlier[who == part] = torch.arange(quota) + time * quota
        return who, earlier

"""Means over prompts, and where they would lie had other prompts been asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from dcar_eval.geneval.summary import LEVEL, RESAMPLES
from dcar_eval.vqa.questions import Measured

AT_ONCE = 1 << 22
"""Draws held in memory at a time."""

Values = Sequence[tuple[str, float]]
"""Numbers, each with the prompt that it is of."""


def group_means(values: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """The mean of each prompt's numbers: several images of a prompt count as one."""
    groups: dict[str, list[float]] = {}
    for prompt, value in values:
        groups.setdefault(prompt, []).append(value)
    return [(prompt, sum(found) / len(found)) for prompt, found in groups.items()]


def measure(values: Values) -> Measured:
    """The mean of numbers, with an interval bootstrapped over prompts (seed 0, 95 %).

    All numbers of a prompt are drawn together: they are not independent. Of `n` numbers.
    """
    groups: dict[str, list[float]] = {}
    for prompt, value in values:
        groups.setdefault(prompt, []).append(value)
    sums = np.array([sum(found) for found in groups.values()])
    counts = np.array([len(found) for found in groups.values()])
    rng = np.random.default_rng(0)
    means = []
    left = RESAMPLES
    while left:
        some = min(left, max(1, AT_ONCE // len(sums)))
        drawn = rng.integers(len(sums), size=(some, len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
        left -= some
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Measured(float(sums.sum() / counts.sum()), float(low), float(high), int(counts.sum()))

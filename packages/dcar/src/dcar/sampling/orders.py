"""Where the sampler reveals: the stages of an order, and a score of each position inside one.

An order is a list of stages, one after the other; `confidence`, `random` and `halton` are a single
stage of all positions. `_reveal` alone decides what an order is: a new one is a member of
`dcar.config.Order` and a case there. Masks and scores are over n = h w positions, row by row; b
images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, assert_never

import torch
from torch import Tensor

from dcar.config import Order, SamplingConfig
from dcar.masking import masked_counts

STAGES = 3
"""Of `Order.gtr` where the settings do not say: GtR's K for MAR."""


class Signals(NamedTuple):
    """What the positions of a stage may be ranked by, each (b, n)."""

    first: Tensor
    """The first step's `draws`: the same in every step."""
    variates: Tensor
    """Uniform in [0, 1), new in every step."""
    confidence: Tensor
    """In the index that was sampled, with annealed noise; 0 where none was."""


Scores = Callable[[Signals], Tensor]
"""From a step's signals to scores (b, n): the positions that score lowest stay hidden."""


class PlannedStep(NamedTuple):
    """What one step of the sampler may reveal, how much, and what goes first."""

    stage: Tensor
    """(n,) boolean: the positions it may reveal."""
    left: Tensor
    """(b,) how many of them stay hidden after it."""
    sampled: int
    """How many positions of all images it samples: those of the stage that are hidden before it."""
    scores: Scores
    """Which ones."""


class _Reveal(NamedTuple):
    """An order on a grid."""

    stages: Tensor
    """(stages, n) boolean: each position is in one of them."""
    steps: list[int]
    """How many steps each stage takes."""
    scores: Scores


def _reveal(
    order: Order, *, grid: tuple[int, int], config: SamplingConfig, device: torch.device
) -> _Reveal:
    height, width = grid
    everywhere = torch.ones(1, height * width, dtype=torch.bool)
    match order:
        case Order.confidence:
            return _Reveal(everywhere, [config.num_steps], lambda signals: signals.confidence)
        case Order.random:
            return _Reveal(everywhere, [config.num_steps], lambda signals: signals.variates)
        case Order.halton:
            ranks = halton_ranks(height, width).to(device)
            return _Reveal(
                everywhere,
                [config.num_steps],
                lambda signals: halton_scores(ranks, signals.first[:, 0]),
            )
        case Order.gtr:
            steps = config.stage_steps or stage_steps(config.num_steps)
            stages = parity_stages(height, width, len(steps))
            inside = _reveal(config.stage_order, grid=grid, config=config, device=device)
            return _Reveal(stages, steps, inside.scores)
        case _:
            assert_never(order)


def plan_steps(
    masked: Tensor, *, grid: tuple[int, int], config: SamplingConfig, device: torch.device
) -> list[PlannedStep]:
    """The `config.num_steps` steps for images whose `masked` (b, n) positions are to be sampled.

    Everything is counted here, so that no step waits for the device to say how much it samples.

    Args:
        masked: on the CPU.
        grid: (h, w).
        config: order, steps and schedule.
        device: where the steps are taken.
    """
    stages, steps, scores = _reveal(config.order, grid=grid, config=config, device=device)
    plan = []
    for stage, num_steps in zip(stages, steps, strict=True):
        size, hidden = int(stage.sum()), (masked & stage).sum(dim=1).tolist()
        counts = [masked_counts(size, count, num_steps, config.schedule) for count in hidden]
        lefts = list(zip(*counts, strict=True))
        for before, left in zip([hidden, *lefts], lefts, strict=False):
            left = torch.tensor(left, device=device)
            plan.append(PlannedStep(stage.to(device), left, sum(before), scores))
    return plan


def parity_stages(height: int, width: int, num_stages: int) -> Tensor:
    """GtR's partition of a grid (arXiv 2510.17171, Algorithm 1): (num_stages, h w) boolean.

    Split off the positions with (i + j) mod 2^k = 2^(k - 1) for k = 1, 2, ...; what was split off
    last is revealed first. So the first stages spread over the whole image, and the last one is
    the odd color of the checkerboard, each position of it between neighbors that are known.
    """
    diagonals = torch.arange(height)[:, None] + torch.arange(width)
    rest = torch.ones(height, width, dtype=torch.bool)
    stages = []
    for k in range(1, num_stages):
        split = rest & (diagonals % 2**k == 2 ** (k - 1))
        stages.append(split)
        rest = rest & ~split
    return torch.stack([rest, *reversed(stages)]).flatten(1)


def stage_steps(num_steps: int) -> list[int]:
    """Steps of each GtR stage: one for the last, twice as many from each to the one before it.

    # not in paper: GtR's own numbers are not public beyond a slow start and a last stage in one or
    two steps. Fewer steps than stages make fewer stages.
    """
    stages, left, steps = min(STAGES, num_steps), num_steps - 1, [1]
    for earlier in range(stages - 1, 0, -1):
        share = round(left / (2**earlier - 1))
        steps.insert(0, share)
        left -= share
    return steps


def halton_scores(ranks: Tensor, starts: Tensor) -> Tensor:
    """Scores (b, n) that fall along the Halton sequence, for each image from a point of its own.

    Args:
        ranks: (n,) what `halton_ranks` returns, where `starts` is.
        starts: (b,) uniform in [0, 1): which point of the sequence an image begins with.
    """
    first = (starts[:, None] * len(ranks)).long()
    return -((ranks - first) % len(ranks)).float()


def halton_ranks(height: int, width: int) -> Tensor:
    """The place (h w,) of each position along a 2-D Halton sequence (arXiv 2503.17076).

    The points of bases 2 and 3, scaled to the grid; each position counts where it first occurs.
    """
    ranks = torch.full((height, width), -1)
    visited, number = 0, 0
    while visited < height * width:
        number += 1
        row, column = _mirrored(number, 2, height), _mirrored(number, 3, width)
        if ranks[row, column] < 0:
            ranks[row, column] = visited
            visited += 1
    return ranks.flatten()


def _mirrored(number: int, base: int, size: int) -> int:
    """The number's digits mirrored behind the point, in [0, 1), scaled to 0 .. size - 1."""
    mirrored, power = 0, 1
    while number:
        number, digit = divmod(number, base)
        mirrored, power = mirrored * base + digit, power * base
    # In integers: 7/9 of 9 columns is column 7, and not 6 for a rounding error.
    return mirrored * size // power

"""What is masked: the ratio law, the mask of a training batch, and how many tokens a step reveals.

Masks are boolean, True where a token is hidden. Shapes: (b, n), n positions row by row.
"""

from __future__ import annotations

import math
from typing import assert_never

import torch
from torch import Tensor

from dcar.config import Schedule


def mask_ratio(progress: Tensor, schedule: Schedule) -> Tensor:
    """Share of the tokens that is masked when `progress` in [0, 1] of the way is done: 1 to 0."""
    match schedule:
        case Schedule.arccos:
            return progress.acos() / (math.pi / 2)
        case Schedule.cosine:
            return (progress * (math.pi / 2)).cos()
        case Schedule.linear:
            return 1 - progress
        case _:
            assert_never(schedule)


def training_mask(
    ratio_variates: Tensor, order_variates: Tensor, schedule: Schedule, fully_masked: float = 0.0
) -> Tensor:
    """The random mask of a training batch, at least one token a sample.

    # not in paper: each sample has its own ratio, mask_ratio(uniform), as in the release.

    Args:
        ratio_variates: (b,) uniform in [0, 1).
        order_variates: (b, n) uniform in [0, 1).
        schedule: law of the ratio.
        fully_masked: share of the samples that have all tokens masked; the others follow the law.

    Returns:
        (b, n) boolean.
    """
    n = order_variates.shape[1]
    variates = ((ratio_variates - fully_masked) / (1 - fully_masked)).clamp(min=0)
    counts = (n * mask_ratio(variates, schedule)).round().clamp(min=1)
    return order_variates.argsort(dim=1) < counts[:, None]


def masked_counts(
    num_tokens: int, num_masked: int, num_steps: int, schedule: Schedule
) -> list[int]:
    """How many tokens are masked after each step, beginning with `num_masked` of `num_tokens`.

    MaskGIT's clamp: every step reveals at least one token while more than one is left, and only the
    last step reveals the last one. The law is that of the whole image also where part of it is
    given (the release).

    Returns:
        `num_steps` counts, the last one 0.
    """
    # fp64 on the CPU: a floor must not depend on the device.
    progress = torch.arange(1, num_steps, dtype=torch.float64, device="cpu") / num_steps
    law = (num_tokens * mask_ratio(progress, schedule)).floor().int().tolist()
    if schedule is Schedule.linear:
        # In integers: exactly even, and the remainder goes to the later steps.
        law = [num_tokens - num_tokens * step // num_steps for step in range(1, num_steps)]
    counts, left = [], num_masked
    for wanted in law:
        left = min(left, max(1, min(left - 1, wanted)))
        counts.append(left)
    return [*counts, 0]


def lowest(scores: Tensor, counts: Tensor) -> Tensor:
    """Mark exactly the `counts` (b,) lowest `scores` (b, n) of each row; ties go by position."""
    ranks = scores.argsort(dim=1, stable=True).argsort(dim=1)
    return ranks < counts[:, None]

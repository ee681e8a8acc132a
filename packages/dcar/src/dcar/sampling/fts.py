"""Frequency-weighted token selection (FTS, arXiv 2510.17171): who takes the long schedule.

Each position gets a score; the share of an image's positions that scores highest is sampled in all
diffusion steps, the rest in fewer. GtR ranks inside its reconstruction stage; here the head runs
once for all positions, so all of an image are ranked. # not in paper: which hidden states; these
are the conditional ones. Shapes: b images, n positions, d width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import torch
from torch import Tensor

from dcar.config import Selector
from dcar.masking import lowest


def frequency_scores(condition: Tensor) -> Tensor:
    """GtR's score (b, n) of conditions (b, n, d): the spectrum over channels, high ones favored.

    The sum of the magnitudes |A(f)| for f = 1 .. d/2, each times 1 + f / (d/2). The order of the
    channels is an accident of training, so this means something only if their spectrum is not
    white; `Selector.norm` and `Selector.random` are there to test that.
    """
    magnitudes = torch.fft.rfft(condition.float(), dim=-1).abs()[..., 1:]
    count = magnitudes.shape[-1]
    weights = 1 + torch.arange(1, count + 1, device=condition.device) / count
    return (magnitudes * weights).sum(dim=-1)


def entropy_scores(logits: Tensor) -> Tensor:
    """Entropy (b, n) in nats of the codes that logits (b, n, k) predict."""
    log_probabilities = logits.float().log_softmax(dim=-1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=-1)


def select(
    selector: Selector,
    condition: Tensor,
    *,
    share: float,
    variates: Tensor,
    to_logits: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The positions (b, n) that score highest, the same number in each image, ties by position.

    Args:
        selector: which score.
        condition: (b, n, d) conditional hidden states.
        share: of an image's positions, rounded to a whole number of them.
        variates: (b, n), any continuous random numbers, for `Selector.random`.
        to_logits: from hidden states to logits over the codes, for `Selector.entropy`.

    Raises:
        ValueError: `Selector.entropy` without `to_logits`.
    """
    match selector:
        case Selector.frequency:
            scores = frequency_scores(condition)
        case Selector.norm:
            scores = condition.float().norm(dim=-1)
        case Selector.entropy:
            if to_logits is None:
                raise ValueError("selector entropy needs to_logits, the generator's predict")
            scores = entropy_scores(to_logits(condition))
        case Selector.random:
            scores = variates
        case _:
            assert_never(selector)
    images, n = scores.shape
    counts = torch.full((images,), round(share * n), device=scores.device)
    return lowest(-scores, counts)

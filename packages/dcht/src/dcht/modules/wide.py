"""What stays in fp32 when a model is cast to half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

HALVES = (torch.float16, torch.bfloat16)


class Wide(nn.Module):
    """A module whose tensors stay in fp32 when `half()` or `to(torch.bfloat16)` casts its model."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def wide(tensor: Tensor) -> Tensor:
            applied = fn(tensor)
            return tensor.to(applied.device) if applied.dtype in HALVES else applied

        return super()._apply(wide, recurse)


def widen(x: Tensor) -> Tensor:
    """float16 as fp32, for what may pass its 65504; others, which reach further, as they are."""
    return x.float() if x.dtype == torch.float16 else x


class BatchNorm2d(Wide, nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose tensors stay in fp32; inputs and results are of the model's precision.

    A running variance may pass float16's 65504: the layer would then be its bias everywhere.
    """


class Linear(Wide, nn.Linear):
    """`nn.Linear` whose weights stay in fp32; inputs are fp32, too."""


class LayerNorm(Wide, nn.LayerNorm):
    """`nn.LayerNorm` whose weights stay in fp32; inputs are fp32, too."""

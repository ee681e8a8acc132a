"""Finite scalar quantization (FSQ, Mentzer et al. 2023, arXiv 2309.15505): a grid instead of codes.

Each channel is bounded and rounded to its own number of levels; a code is one level of each. There
is nothing to train, and no code can die. # not in paper: DC-HT has a vector quantizer.

The equations are those of FSQ's appendix A.1. Shapes: b images, c channels, h w grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from dcht.modules.quantizer import Quantized, QuantizedTrain

EPS = 1e-3
"""How much of the outermost levels' width is out of reach of tanh."""


class FiniteScalarQuantizer(nn.Module):
    """`levels[i]` levels of channel i, evenly spaced within [-1, 1]; an even number has no 1.

    Index 0 has the lowest level of every channel, and the first channel counts fastest.
    """

    codebook = None

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)

    @property
    def size(self) -> int:
        """How many codes there are: the product of the levels."""
        return math.prod(self.levels)

    @property
    def inverse_rms(self) -> float:
        """1 over the RMS of a value of z_q, if all codes are as frequent."""
        squares = [
            sum((level - count // 2) ** 2 for level in range(count)) / count / (count // 2) ** 2
            for count in self.levels
        ]
        return (sum(squares) / len(squares)) ** -0.5

    def normalize(self, z: Tensor) -> Tensor:
        """Bound what the encoder gives (b, c, h, w) to the range of the levels, in fp32."""
        counts = self._counts(z)
        half = (counts - 1) * (1 - EPS) / 2
        offset = torch.where(counts % 2 == 1, 0.0, 0.5)
        bounded = torch.tanh(z.float() + (offset / half).tan()) * half - offset
        return bounded / (counts // 2)

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes (b, c, h, w) of indices (b, h, w)."""
        counts = self._counts(indices)
        levels = rearrange(indices, "b h w -> b 1 h w") // self._strides(indices) % counts
        return (levels - counts // 2).float() / (counts // 2)

    def forward(self, z: Tensor) -> Quantized:
        """Round z (b, c, h, w); where it is NaN, the index is `size` and z_q is NaN."""
        counts = self._counts(z)
        nameless = z.isnan().any(dim=1)
        levels = (z.float().nan_to_num() * (counts // 2)).round().long() + counts // 2
        levels = levels.clamp(min=0).minimum(counts - 1)
        indices = (levels * self._strides(z)).sum(dim=1)
        z_q = self.lookup(indices).masked_fill(rearrange(nameless, "b h w -> b 1 h w"), torch.nan)
        return Quantized(indices.masked_fill(nameless, self.size), z_q)

    def forward_train(self, z: Tensor) -> QuantizedTrain:
        """As `forward`, with the straight-through gradient; there are no losses."""
        z = z.float()
        indices, z_q = self(z)
        return QuantizedTrain(indices, z + (z_q - z).detach(), {})

    def _counts(self, like: Tensor) -> Tensor:
        """The levels as (c, 1, 1), where `like` is. No buffer: loading would leave it on "meta"."""
        return rearrange(torch.tensor(self.levels, device=like.device), "c -> c 1 1")

    def _strides(self, like: Tensor) -> Tensor:
        """What one level more of each channel adds to an index, (c, 1, 1)."""
        strides = [math.prod(self.levels[:channel]) for channel in range(len(self.levels))]
        return rearrange(torch.tensor(strides, device=like.device), "c -> c 1 1")

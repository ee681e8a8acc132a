"""What a quantizer is, and the paper's: the nearest code on the unit sphere.

# not in paper: the codebook's form. Table 7 equals LlamaGen's training defaults field by field, and
the published release confirms what follows from that: l2-normalized latents and codes, beta 0.25,
codebook loss of weight 1 by gradient, straight-through. `docs/reproduction.md` has the sources.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dcht.modules.wide import Wide

CODES_AT_ONCE = 2048


class Quantized(NamedTuple):
    """indices (b, h, w) int64; z_q (b, c, h, w): the codes they name."""

    indices: Tensor
    z_q: Tensor


class QuantizedTrain(NamedTuple):
    """As `Quantized`, but z_q passes gradients straight through to z; with the losses by name."""

    indices: Tensor
    z_q: Tensor
    losses: dict[str, Tensor]
    """Scalars, weighted by the setting of the same name in `dcht.loss_config.LossConfig`."""


class Quantizer(Protocol):
    """What a tokenizer and its training need of a quantizer, which is an `nn.Module`."""

    @property
    def codebook(self) -> nn.Parameter | None:
        """The codes (k, c) as they are trained; None where they are fixed."""
        ...

    @property
    def size(self) -> int:
        """How many codes there are, k."""
        ...

    @property
    def inverse_rms(self) -> float:
        """1 over the RMS of a value of z: how much a fresh decoder enlarges it."""
        ...

    def normalize(self, z: Tensor) -> Tensor:
        """What the encoder gives (b, c, h, w) as z, which lies where the codes do; fp32."""
        ...

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes (b, c, h, w) fp32 of indices (b, h, w) in 0 .. k - 1."""
        ...

    def __call__(self, z: Tensor) -> Quantized:
        """Quantize z (b, c, h, w); where z is NaN, the index is k and z_q is NaN."""
        ...

    def forward_train(self, z: Tensor) -> QuantizedTrain:
        """Quantize z (b, c, h, w) in training."""
        ...


class VectorQuantizer(Wide):
    """A codebook (k, c), stored unnormalized and normalized on every look-up, in fp32.

    It stays in fp32 when its tokenizer is cast: what was stored with it is decoded with it.
    """

    def __init__(self, codebook_size: int, channels: int, *, commitment_weight: float) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.empty(codebook_size, channels))
        nn.init.uniform_(self.codebook, -1 / codebook_size, 1 / codebook_size)
        self.commitment_weight = commitment_weight

    @property
    def size(self) -> int:
        """How many codes there are."""
        return self.codebook.shape[0]

    @property
    def inverse_rms(self) -> float:
        """The root of the channels: z is of unit length."""
        return self.codebook.shape[1] ** 0.5

    def normalize(self, z: Tensor) -> Tensor:
        """What the encoder gives (b, c, h, w), of unit length at every position, in fp32."""
        return F.normalize(z.float(), dim=1)

    def codes(self) -> Tensor:
        """All codes (k, c), of unit length."""
        return F.normalize(self.codebook.float(), dim=-1)

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes (b, c, h, w) of indices (b, h, w)."""
        # Normalizing the rows that were picked equals picking from the normalized codebook.
        picked = F.normalize(F.embedding(indices, self.codebook.float()), dim=-1)
        return rearrange(picked, "b h w c -> b c h w")

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Indices (b, h, w) of the codes nearest to unit-length z (b, c, h, w).

        A z that is NaN has none: its index is the codebook's size, which no code has.

        Of unit vectors the nearest is the one of largest inner product; of several, the first. The
        codes are taken in pieces, so that not all (n, k) scores of a large image exist at once.
        """
        b, _, h, w = z.shape
        flat = rearrange(z.float(), "b c h w -> (b h w) c")
        best = torch.full_like(flat[:, 0], -torch.inf)
        indices = torch.full_like(best, self.codebook.shape[0], dtype=torch.int64)
        for start in range(0, self.codebook.shape[0], CODES_AT_ONCE):
            codes = F.normalize(self.codebook[start : start + CODES_AT_ONCE].float(), dim=-1)
            score, index = (flat @ codes.T).max(dim=-1)
            better = score > best
            best = torch.where(better, score, best)
            indices = torch.where(better, index + start, indices)
        return rearrange(indices, "(b h w) -> b h w", b=b, h=h, w=w)

    def forward(self, z: Tensor) -> Quantized:
        """Quantize z (b, c, h, w); where z is NaN, so is z_q."""
        indices, last = self.nearest(z), self.codebook.shape[0] - 1
        z_q = self.lookup(indices.clamp(max=last))
        nameless = rearrange(indices > last, "b h w -> b 1 h w")
        return Quantized(indices, z_q.masked_fill(nameless, torch.nan))

    def forward_train(self, z: Tensor) -> QuantizedTrain:
        """Quantize z (b, c, h, w) with the straight-through gradient and the two losses.

        codebook_loss = |sg(z) - z_q|^2 moves codes, commitment_loss = beta |z - sg(z_q)|^2 moves
        the encoder; both are means over all elements.
        """
        z = z.float()
        indices, z_q = self(z)
        codebook_loss = F.mse_loss(z_q, z.detach())
        commitment_loss = self.commitment_weight * F.mse_loss(z, z_q.detach())
        losses = {"codebook": codebook_loss, "commitment": commitment_loss}
        return QuantizedTrain(indices, z + (z_q - z).detach(), losses)

"""Looking after a codebook in training: usage, k-means start, revival of dead codes.

Shapes: n latents, c channels, k codes. Everything lives on the unit sphere, like the quantizer.
# not in paper: all of it; start and revival are options that are off by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcht.errors import UsageError
from dcht.modules.quantizer import Quantizer

LATENTS_PER_CODE = 32
"""How many latents k-means sees for each code."""
KMEANS_ITERATIONS = 20
CHUNK = 4096


class Usage(NamedTuple):
    """used: share of the codes seen; perplexity: exp of the entropy of their frequencies."""

    used: float
    perplexity: float


class UsageWindow:
    """The latest `size` indices. One batch says little: its perplexity is bounded by its size."""

    def __init__(self, codebook_size: int, size: int) -> None:
        self.codebook_size = codebook_size
        self.size = size
        self.indices = torch.empty(0, dtype=torch.int64)

    def add(self, indices: Tensor) -> None:
        """Append indices of any shape and forget the oldest beyond the window."""
        earlier = self.indices.to(indices.device)
        self.indices = torch.cat([earlier, indices.flatten()])[-self.size :]

    def counts(self) -> Tensor:
        """How often each code (k,) occurs in the window."""
        return torch.bincount(self.indices, minlength=self.codebook_size)

    def usage(self) -> Usage:
        """Share of codes used, and perplexity, over the window."""
        counts = self.counts()
        share = counts / counts.sum().clamp_min(1)
        entropy = -torch.xlogy(share, share).sum()
        return Usage((counts > 0).float().mean().item(), entropy.exp().item())


def nearest(latents: Tensor, codes: Tensor) -> Tensor:
    """Index (n,) of the code (k, c) with the largest inner product with each latent (n, c)."""
    return torch.cat([(chunk @ codes.T).argmax(dim=-1) for chunk in latents.split(CHUNK)])


def spherical_kmeans(latents: Tensor, num_codes: int, generator: torch.Generator) -> Tensor:
    """Unit-length centers (k, c) of unit-length latents (n, c); an empty cluster gets a latent.

    Raises:
        ValueError: fewer latents than codes.
    """
    if len(latents) < num_codes:
        raise ValueError(f"k-means of {num_codes} codes needs as many latents, got {len(latents)}")
    picked = torch.randperm(len(latents), generator=generator)[:num_codes]
    centers = latents[picked.to(latents.device)]
    for _ in range(KMEANS_ITERATIONS):
        assigned = nearest(latents, centers)
        sums = torch.zeros_like(centers).index_add_(0, assigned, latents)
        empty = torch.bincount(assigned, minlength=num_codes) == 0
        spare = torch.randint(len(latents), (int(empty.sum()),), generator=generator)
        sums[empty] = latents[spare.to(latents.device)]
        centers = F.normalize(sums, dim=-1)
    return centers


def trained_codes(quantizer: Quantizer) -> nn.Parameter:
    """The codes (k, c), to be placed by k-means or revival.

    Raises:
        UsageError: they are fixed, as those of FSQ.
    """
    if quantizer.codebook is None:
        raise UsageError(
            f"the {quantizer.size} codes of this quantizer are fixed, so that none can be placed; "
            "leave codebook.kmeans_start and codebook.revive_every out"
        )
    return quantizer.codebook


def is_new(codebook: Tensor) -> bool:
    """Whether every code is where random weights put it: training moves them further out."""
    limit = 1.001 / len(codebook)  # a published one may be rounded to float16
    return bool(codebook.detach().abs().max() <= limit)


@torch.no_grad()
def start_codebook(
    quantizer: Quantizer, sample: Callable[[int], Tensor], generator: torch.Generator
) -> str:
    """Put the codes of a new codebook where latents are; one that was trained is kept.

    Args:
        quantizer: its codebook is changed.
        sample: gives up to so many latents (n, c) of unit length.
        generator: what k-means samples from.

    Returns:
        What was done, as a sentence.

    Raises:
        UsageError: the codes are fixed.
    """
    codebook = trained_codes(quantizer)
    if not is_new(codebook):
        return (
            "the codebook is kept, because it was trained before: codebook.kmeans_start is for a "
            "new one"
        )
    latents = sample(LATENTS_PER_CODE * len(codebook))
    found = min(len(codebook), len(latents))
    centers = spherical_kmeans(latents, found, generator)
    # Fewer latents than codes: the others stay in their directions, as long as the first.
    codebook.copy_(torch.cat([centers, F.normalize(codebook[found:], dim=-1)]))
    return (
        f"the codebook is new: k-means over {len(latents)} latents places {found} of its "
        f"{len(codebook)} codes"
    )


@torch.no_grad()
def revive_dead_codes(
    codebook: Tensor,
    latents: Tensor,
    counts: Tensor,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> int:
    """Put codes that were not seen (counts 0) where latents (n, c) are; returns how many.

    A revived code has the length that living codes have on average, and no momentum.
    """
    dead = (counts == 0).to(codebook.device)
    num_dead = int(dead.sum())
    if num_dead == 0:
        return 0
    length = codebook.norm(dim=-1)[~dead].mean() if num_dead < len(dead) else 1.0
    picked = torch.randint(len(latents), (num_dead,), generator=generator)
    codebook[dead] = latents[picked.to(latents.device)].to(codebook.dtype) * length
    for name in ("exp_avg", "exp_avg_sq"):
        moments = optimizer.state[codebook].get(name)
        if moments is not None:
            moments[dead] = 0
    return num_dead

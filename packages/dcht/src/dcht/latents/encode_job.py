"""How images are encoded, and the job that follows from it: settings, plan and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import torch

from dcht.data.entries import Entry, hash_entries
from dcht.device import Precision, pick_precision
from dcht.errors import CheckpointError, UsageError
from dcht.images import Fit
from dcht.latents import EncodePlan
from dcht.latents.kept import find_other_input
from dcht.latents.maker import latents_sha256
from dcht.latents.writer import LatentsWriter
from dcht.tokenizer import Tokenizer


class Flip(Enum):
    """Which of an image and its mirror image are encoded."""

    none = "none"
    both = "both"

    @property
    def views(self) -> int:
        """How many times an image is encoded."""
        return {"none": 1, "both": 2}[self.value]


class Backend(Enum):
    """Who runs the workers."""

    local = "local"
    ray = "ray"


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """How images are encoded. The first eight are part of the plan: the bytes depend on them."""

    size: tuple[int, int]
    """(width, height), multiples of 32."""
    fit: Fit = Fit.crop
    flip: Flip = Flip.none
    precision: Precision = Precision.fp32
    """Of the encoder; the quantizer works in fp32."""
    compile: bool = False
    """Compile the encoder with torch.compile: half a minute, then several times as fast."""
    batch_size: int = 32
    shard_size: int = 4096
    """Inputs a shard covers."""
    threads: int | None = None
    """Of torch, in each worker; None: what torch has in this process."""
    workers: int = 1
    backend: Backend = Backend.local
    part: tuple[int, int] = (0, 1)
    """(i, n): this run sees to every n-th shard from the i-th on, and others to the rest."""
    strict: bool = False
    """Stop at the first input that cannot be read."""


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to know, but for the tokenizer."""

    plan: EncodePlan
    entries: list[Entry]
    out: Path
    strict: bool

    @property
    def num_shards(self) -> int:
        """How many shards there are."""
        return -(-len(self.entries) // self.plan.shard_size)

    def inputs(self, shard: int) -> Sequence[Entry]:
        """The inputs of a shard."""
        start = shard * self.plan.shard_size
        return self.entries[start : start + self.plan.shard_size]

    def count(self, shards: Sequence[int]) -> int:
        """How many inputs some shards have."""
        return sum(len(self.inputs(shard)) for shard in shards)

    def writer(self, own: Sequence[int] | None, *, force: bool = False) -> LatentsWriter:
        """A writer for the shards `own` (None: for all, and nobody else is writing)."""
        return LatentsWriter(
            self.out,
            self.plan,
            num_shards=self.num_shards,
            own=own,
            force=force,
            find_difference=self._find_difference,
        )

    def _find_difference(self, known: EncodePlan) -> str:
        return find_other_input(self.out, known.shape, self.entries, known.shard_size)


def plan_encoding(
    tokenizer: Tokenizer, entries: list[Entry], settings: EncodeSettings
) -> EncodePlan:
    """What the bytes of the store will depend on.

    Raises:
        UsageError: the tokenizer was cast: the plan says what its precision is; or int8.
        CheckpointError: the tokenizer has no hash.
    """
    quantizer, config = tokenizer.quantizer, tokenizer.config
    if tokenizer.sha256 is None:
        raise CheckpointError("the tokenizer was never saved; save_pretrained gives it its hash")
    if tokenizer.precision is not Precision.fp32:
        raise UsageError(
            f"the tokenizer was cast to {tokenizer.precision.value}; encode with fp32 weights, and "
            "with precision=Precision.bf16 or fp16 for another precision"
        )
    width, height = settings.size
    device = tokenizer.encoder.output.weight.device
    return EncodePlan(
        tokenizer_sha256=tokenizer.sha256,
        width=width,
        height=height,
        latent_height=height // config.downsampling,
        latent_width=width // config.downsampling,
        latent_channels=config.latent_channels,
        codebook_size=None if quantizer is None else quantizer.size,
        residual_std=config.residual_std,
        transform=settings.fit.value,
        files_sha256=hash_entries(entries),
        shard_size=settings.shard_size,
        batch_size=settings.batch_size,
        threads=settings.threads or torch.get_num_threads(),
        flip=settings.flip.value,
        precision=pick_precision(settings.precision, device).value,
        compiled=settings.compile,
        device=device.type,
        latents_sha256=latents_sha256(tokenizer),
    )

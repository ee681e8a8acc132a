"""Latents on disk: what `dcht encode` writes and `dcar-train` reads.

A store is a folder:
  manifest.json              tokenizer hash, transform, resolution, counts; written last
  shard-NNNNN.safetensors    indices uint16 (n, h, w), residual float16 (n, c, h, w)
  shard-NNNNN.jsonl          a row for each of the n, in order: file, caption, captions, ...
  errors.jsonl               a row for each input that was skipped: file, reason
Shard boundaries come from the sorted list of inputs alone, so a store's bytes do not depend on who
made which shard, or how often the work was interrupted. Nothing in it is a pickle.
`dcht.latents_writer` writes it.
"""

from __future__ import annotations

import bisect
import itertools
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dcht.checkpoint import from_dict, is_finite
from dcht.errors import CheckpointError, UsageError
from dcht.files import read_rows

MANIFEST, PLAN = "manifest.json", ".plan.json"
FORMAT = "dcht-latents-1"


@dataclass(kw_only=True)
class Plan:
    """Everything the bytes of a store depend on; encoding resumes only under an equal plan."""

    tokenizer_sha256: str
    width: int
    height: int
    latent_height: int
    latent_width: int
    latent_channels: int
    codebook_size: int
    residual_std: float | None
    transform: str
    """How an image was brought to width x height: a value of `dcht.images.Fit`."""
    files_sha256: str
    """Hash of the sorted list of inputs with their sizes."""
    shard_size: int
    """Inputs that a shard covers."""
    batch_size: int
    threads: int
    """Matrix products differ in their last bits with the number of threads."""
    flip: str = "none"
    """`both`: every image has a second row, of its mirror image, with `flip: true`."""
    precision: str = "fp32"
    """Of the encoder; the quantizer works in fp32."""
    device: str = "cpu"
    """Its kind; results of another kind differ in their last bits."""


@dataclass(kw_only=True)
class Manifest:
    """What a finished store holds."""

    format: str
    plan: Plan
    count: int
    skipped: int
    shards: list[int]
    """Rows of each shard; an input that was skipped leaves its shard shorter."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Of every other file of the store, by name; empty in stores of dcht 0.1.0."""


class LatentsStore:
    """Random access to a finished store; what is read is mapped into memory, not loaded."""

    def __init__(self, folder: str | Path) -> None:
        """Open a store.

        Raises:
            UsageError: there is none, or it is not finished.
            CheckpointError: it is damaged.
        """
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.plan = self.manifest.plan
        self._ends = list(itertools.accumulate(self.manifest.shards))
        self._tensors: dict[int, Any] = {}
        self._lines: dict[int, list[int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Mapped files do not travel to another process; it maps them for itself.
        return {**self.__dict__, "_tensors": {}}

    def __len__(self) -> int:
        return self.manifest.count

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """All rows: `file`, `caption` (or None), `captions` where there are several."""
        shards = range(len(self.manifest.shards))
        rows = [row for shard in shards for row in read_rows(rows_path(self.folder, shard))]
        if len(rows) != len(self):
            raise CheckpointError(f"{self.folder} has {len(rows)} rows for {len(self)} images")
        return rows

    def row(self, index: int) -> dict[str, Any]:
        """The row of one image, without reading those of the others."""
        shard, number = self._place(index)
        path = rows_path(self.folder, shard)
        with path.open("rb") as file:
            if shard not in self._lines:
                self._lines[shard] = [0, *itertools.accumulate(len(line) for line in file)]
            file.seek(self._lines[shard][number])
            return json.loads(file.readline())

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Indices (h, w) int64 and residual (c, h, w) fp32 of one image.

        Raises:
            CheckpointError: the store is damaged.
        """
        shard, number = self._place(index)
        file = self._open(shard)
        indices = file.get_slice("indices")[number : number + 1][0].long()
        residual = file.get_slice("residual")[number : number + 1][0].float()
        self._check(shard, indices, residual)
        return indices, residual

    def read_shard(self, shard: int) -> tuple[Tensor, Tensor]:
        """Indices (n, h, w) int64 and residual (n, c, h, w) fp16 of one shard.

        Raises:
            CheckpointError: the store is damaged.
        """
        file = self._open(shard)
        indices, residual = file.get_tensor("indices").long(), file.get_tensor("residual")
        self._check(shard, indices, residual)
        return indices, residual

    def _check(self, shard: int, indices: Tensor, residual: Tensor) -> None:
        largest = int(indices.max()) if indices.numel() else 0
        if largest >= self.plan.codebook_size:
            wrong = f"index {largest} of a codebook of {self.plan.codebook_size}"
        elif not is_finite(residual):
            wrong = "a residual that is NaN or infinite"
        else:
            return
        path = tensors_path(self.folder, shard)
        raise CheckpointError(f"{path} holds {wrong}; encode again into an empty folder")

    def load_all(self) -> tuple[Tensor, Tensor]:
        """Every image: indices (n, h, w) int64, residual (n, c, h, w) fp16. For small stores."""
        parts = [self.read_shard(shard) for shard in range(len(self.manifest.shards))]
        indices, residual = zip(*parts, strict=True)
        return torch.cat(indices), torch.cat(residual)

    def _place(self, index: int) -> tuple[int, int]:
        """The shard of an image and its number there."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        shard = bisect.bisect_right(self._ends, index)
        return shard, index - self._ends[shard] + self.manifest.shards[shard]

    def _open(self, shard: int) -> Any:
        if shard not in self._tensors:
            path = tensors_path(self.folder, shard)
            try:
                self._tensors[shard] = safe_open(path, "pt")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path} is missing or damaged: {error}") from None
        return self._tensors[shard]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished store."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        state = (
            "is not finished: repeat its dcht encode" if (folder / PLAN).exists() else "is not one"
        )
        raise UsageError(f"{folder} should be a store of latents and {state}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    manifest = from_dict(Manifest, content, str(path))
    if manifest.format != FORMAT:
        raise CheckpointError(f"{path} has format {manifest.format!r}; this reads {FORMAT!r}")
    return manifest


def tensors_path(folder: Path, shard: int) -> Path:
    """Where the tensors of a shard are."""
    return folder / f"shard-{shard:05d}.safetensors"


def rows_path(folder: Path, shard: int) -> Path:
    """Where the rows of a shard are."""
    return folder / f"shard-{shard:05d}.jsonl"

"""Latents on disk: what `dcht encode` writes and `dcar-train` reads.

A store is a folder:
  manifest.json              tokenizer hash, transform, resolution, counts; written last
  shard-NNNNN.safetensors    indices uint16 (n, h, w), residual float16 (n, c, h, w)
  shard-NNNNN.jsonl          a row an image, in the same order: file, caption, captions, ...
  errors.jsonl               a row for each input that was skipped: file, reason
Shard boundaries come from the sorted list of files alone, so a store's bytes do not depend on how
often the work was interrupted. Nothing in it is a pickle.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dcht.checkpoint import from_dict, write_atomic
from dcht.errors import CheckpointError, UsageError

MANIFEST, ERRORS, PLAN = "manifest.json", "errors.jsonl", ".plan.json"
FORMAT = "dcht-latents-1"
MAX_CODES = 65536  # what a uint16 can name


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
    """How an image was brought to width x height."""
    files_sha256: str
    """Hash of the sorted list of input files with their sizes."""
    shard_size: int
    batch_size: int
    threads: int
    """Matrix products differ in their last bits with the number of threads."""


@dataclass(kw_only=True)
class Manifest:
    """What a finished store holds."""

    format: str
    plan: Plan
    count: int
    skipped: int
    shards: list[int]
    """Images in each shard; an input that was skipped leaves its shard shorter."""


class LatentsWriter:
    """Writes a store shard by shard; each shard appears whole or not at all."""

    def __init__(self, folder: str | Path, plan: Plan, *, force: bool = False) -> None:
        """Open `folder` for this plan, continuing what an earlier run of it began.

        Raises:
            UsageError: the folder holds something else and `force` is off.
        """
        if plan.codebook_size > MAX_CODES:
            raise UsageError(f"{plan.codebook_size} codes do not fit uint16 ({MAX_CODES} at most)")
        self.folder = Path(folder)
        self.plan = plan
        known = self._read_plan()
        if known != asdict(plan):
            if not force and self.folder.exists() and any(self.folder.iterdir()):
                raise UsageError(
                    f"{self.folder} {self._difference(known)}; use --force or another --out"
                )
            self._clear()
        self.folder.mkdir(parents=True, exist_ok=True)
        for partial in self.folder.glob(".*.partial"):
            partial.unlink()
        write_atomic(self.folder / PLAN, _json(asdict(plan)))

    def _read_plan(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / PLAN).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _difference(self, known: dict[str, Any] | None) -> str:
        if known is None:
            return "is not empty and is not a store of latents"
        new = asdict(self.plan)
        changed = [key for key in new if known.get(key) != new[key]]
        key = changed[0] if changed else "format"
        return f"was begun with {key} {known.get(key)!r}, not {new.get(key)!r}"

    def _clear(self) -> None:
        for pattern in ("shard-*", ".shard-*", MANIFEST, ERRORS, PLAN):
            for path in self.folder.glob(pattern):
                path.unlink()

    @property
    def finished(self) -> Manifest | None:
        """The manifest, if an earlier run finished this plan."""
        return read_manifest(self.folder) if (self.folder / MANIFEST).exists() else None

    def has(self, shard: int) -> bool:
        """Whether this shard is already there. Its tensors are written after its rows."""
        return _tensors(self.folder, shard).exists()

    def write(
        self,
        shard: int,
        rows: list[dict[str, Any]],
        errors: list[dict[str, str]],
        indices: Tensor,
        residual: Tensor,
    ) -> None:
        """Write a shard: indices (n, h, w), residual (n, c, h, w), a row each, and what failed."""
        write_atomic(_rows(self.folder, shard), _jsonl(rows))
        write_atomic(_shard_errors(self.folder, shard), _jsonl(errors))
        path = _tensors(self.folder, shard)
        partial = path.with_name(f".{path.name}.partial")
        tensors = {
            "indices": indices.to(torch.uint16).contiguous(),
            "residual": residual.to(torch.float16).contiguous(),
        }
        save_file(tensors, partial)
        os.replace(partial, path)

    def finish(self, num_shards: int) -> Manifest:
        """Gather the errors and write the manifest, which makes the store complete."""
        errors = [
            row for s in range(num_shards) for row in _read_jsonl(_shard_errors(self.folder, s))
        ]
        counts = [len(_read_jsonl(_rows(self.folder, shard))) for shard in range(num_shards)]
        if errors:
            write_atomic(self.folder / ERRORS, _jsonl(errors))
        manifest = Manifest(
            format=FORMAT, plan=self.plan, count=sum(counts), skipped=len(errors), shards=counts
        )
        write_atomic(self.folder / MANIFEST, _json(asdict(manifest)))
        for shard in range(num_shards):
            _shard_errors(self.folder, shard).unlink()
        return manifest


class LatentsStore:
    """Random access to a finished store."""

    def __init__(self, folder: str | Path) -> None:
        """Open a store.

        Raises:
            UsageError: there is none, or it is not finished.
            CheckpointError: it is damaged.
        """
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.plan = self.manifest.plan
        self._starts = [0]
        for count in self.manifest.shards:
            self._starts.append(self._starts[-1] + count)

    def __len__(self) -> int:
        return self.manifest.count

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """A row an image: `file`, `caption` (or None), `captions` where there are several."""
        shards = range(len(self.manifest.shards))
        rows = [row for shard in shards for row in _read_jsonl(_rows(self.folder, shard))]
        if len(rows) != len(self):
            raise CheckpointError(f"{self.folder} has {len(rows)} rows for {len(self)} images")
        return rows

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Indices (h, w) int64 and residual (c, h, w) fp32 of one image."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        shard = next(s for s, end in enumerate(self._starts[1:]) if index < end)
        row = index - self._starts[shard]
        with self._open(shard) as file:
            indices = file.get_slice("indices")[row : row + 1][0]
            residual = file.get_slice("residual")[row : row + 1][0]
        return indices.long(), residual.float()

    def load_all(self) -> tuple[Tensor, Tensor]:
        """Every image: indices (n, h, w) int64, residual (n, c, h, w) fp16. For small stores."""
        plan = self.plan
        indices = [torch.empty(0, plan.latent_height, plan.latent_width, dtype=torch.long)]
        residual = [
            torch.empty(
                0, plan.latent_channels, plan.latent_height, plan.latent_width, dtype=torch.float16
            )
        ]
        for shard, count in enumerate(self.manifest.shards):
            if count:
                with self._open(shard) as file:
                    indices.append(file.get_tensor("indices").long())
                    residual.append(file.get_tensor("residual"))
        return torch.cat(indices), torch.cat(residual)

    def _open(self, shard: int) -> Any:
        path = _tensors(self.folder, shard)
        try:
            return safe_open(path, "pt")
        except (SafetensorError, FileNotFoundError) as error:
            raise CheckpointError(f"{path} is missing or damaged: {error}") from None


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


def _tensors(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.safetensors"


def _rows(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.jsonl"


def _shard_errors(folder: Path, shard: int) -> Path:
    return folder / f".shard-{shard:05d}.errors.jsonl"


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]

"""Writes a store of latents shard by shard: each appears whole or not at all, whoever writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from dcht.checkpoint import from_dict
from dcht.errors import UsageError
from dcht.files import ERRORS, file_sha256, is_in_use, jsonl, write_atomic
from dcht.latents import (
    FORMAT,
    MANIFEST,
    PLAN,
    Manifest,
    Plan,
    read_manifest,
    rows_path,
    tensors_path,
)

MAX_CODES = 65536
"""What a uint16 can name."""


class LatentsWriter:
    """One of perhaps several processes that write one store."""

    def __init__(
        self,
        folder: str | Path,
        plan: Plan,
        *,
        num_shards: int,
        mine: Sequence[int] | None = None,
        force: bool = False,
    ) -> None:
        """Open `folder` for this plan, continuing what an earlier run of it began.

        Args:
            folder: the store.
            plan: what its bytes depend on.
            num_shards: how many shards the plan makes.
            mine: the shards that this process sees to; None, all of them, means that nobody else
                is writing here.
            force: replace a store of another plan.

        Raises:
            UsageError: the folder holds something else and `force` is off.
        """
        if plan.codebook_size > MAX_CODES:
            raise UsageError(f"{plan.codebook_size} codes do not fit uint16 ({MAX_CODES} at most)")
        self.folder, self.plan, self.num_shards = Path(folder), plan, num_shards
        self.mine = range(num_shards) if mine is None else mine
        known = self._read_plan()
        if known != plan:
            if not force and is_in_use(self.folder):
                raise UsageError(
                    f"{self.folder} {self._difference(known)}; use --force or another --out"
                )
            self._clear()
        self.folder.mkdir(parents=True, exist_ok=True)
        alone = mine is None or self.finished is not None
        patterns = [".*.partial"] if alone else [f".shard-{s:05d}.*.partial" for s in self.mine]
        for pattern in patterns:
            for left_over in self.folder.glob(pattern):
                left_over.unlink(missing_ok=True)
        if known != plan:
            write_atomic(self.folder / PLAN, _json(asdict(plan)))

    def _read_plan(self) -> Plan | None:
        path = self.folder / PLAN
        try:
            return from_dict(Plan, json.loads(path.read_text()), str(path))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def _difference(self, known: Plan | None) -> str:
        if known is None:
            return "is not empty and is not a store of latents"
        old, new = asdict(known), asdict(self.plan)
        key = next(key for key in new if old[key] != new[key])
        return f"was begun with {key} {old[key]!r}, not {new[key]!r}"

    def _clear(self) -> None:
        # What says that there is a store goes first: no shard is ever missing from one.
        for pattern in (MANIFEST, PLAN, ERRORS, "shard-*", ".*.partial"):
            for path in self.folder.glob(pattern):
                path.unlink()

    @property
    def finished(self) -> Manifest | None:
        """The manifest, if an earlier run finished this plan."""
        return read_manifest(self.folder) if (self.folder / MANIFEST).exists() else None

    def missing(self, shards: Sequence[int] | None = None) -> list[int]:
        """Which shards (of all, or of these) are not there yet."""
        asked = range(self.num_shards) if shards is None else shards
        return [shard for shard in asked if not tensors_path(self.folder, shard).exists()]

    def write(
        self,
        shard: int,
        rows: list[dict[str, Any]],
        errors: list[dict[str, str]],
        indices: Tensor,
        residual: Tensor,
    ) -> None:
        """Write a shard: indices (n, h, w), residual (n, c, h, w), a row each, and what failed.

        The tensors come last: with them the shard is there. They carry what failed in the file's
        metadata, so that whoever finishes the store finds it.
        """
        write_atomic(rows_path(self.folder, shard), jsonl(rows))
        tensors = {
            "indices": indices.to(torch.uint16).contiguous(),
            "residual": residual.to(torch.float16).contiguous(),
        }
        content = save(tensors, metadata={"errors": json.dumps(errors)})
        write_atomic(tensors_path(self.folder, shard), content)

    def skipped(self, shards: Sequence[int]) -> list[dict[str, str]]:
        """What failed in these shards, which must be there."""
        errors = []
        for shard in shards:
            with safe_open(tensors_path(self.folder, shard), "pt") as file:
                errors += json.loads(file.metadata()["errors"])
        return errors

    def finish(self) -> Manifest:
        """Write `errors.jsonl`, if there are any, and the manifest, which makes it complete.

        Of several processes that find all shards there each may do so: they write the same bytes.
        """
        errors = self.skipped(range(self.num_shards))
        if errors:
            write_atomic(self.folder / ERRORS, jsonl(errors))
        counts, hashes = [], {}
        for shard in range(self.num_shards):
            with safe_open(tensors_path(self.folder, shard), "pt") as file:
                counts.append(file.get_slice("indices").get_shape()[0])
            for path in (tensors_path(self.folder, shard), rows_path(self.folder, shard)):
                hashes[path.name] = file_sha256(path)
        if errors:
            hashes[ERRORS] = file_sha256(self.folder / ERRORS)
        manifest = Manifest(
            format=FORMAT,
            plan=self.plan,
            count=sum(counts),
            skipped=len(errors),
            shards=counts,
            sha256=hashes,
        )
        write_atomic(self.folder / MANIFEST, _json(asdict(manifest)))
        return manifest


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"

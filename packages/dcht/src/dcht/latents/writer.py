"""Writes a store of latents shard by shard: each appears whole or not at all, whoever writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dcht.checkpoint import from_dict
from dcht.errors import CheckpointError, UsageError
from dcht.files import (
    ERRORS,
    file_sha256,
    is_in_use,
    jsonl,
    locked,
    read_json,
    remove_partials,
    write_atomic,
)
from dcht.latents import FORMAT, MANIFEST, PLAN, EncodePlan, Manifest, read_manifest
from dcht.latents.kept import stamp_path
from dcht.latents.shards import Shard, ShardData, rows_path, tensors_path, write_shard
from dcht.releases import holder


def store_files(folder: Path) -> list[Path]:
    """The files of a store, what makes it one first; of a folder that is none, those called so."""
    patterns = (MANIFEST, PLAN, ERRORS, "shard-*", ".stamp-*", ".*.partial")
    return [path for pattern in patterns for path in folder.glob(pattern)]


class LatentsWriter:
    """One of perhaps several processes that write one store."""

    def __init__(
        self,
        folder: str | Path,
        plan: EncodePlan,
        *,
        num_shards: int,
        own: Sequence[int] | None = None,
        force: bool = False,
        find_difference: Callable[[EncodePlan], str] | None = None,
    ) -> None:
        """Open `folder` for this plan, continuing what an earlier run of it began.

        Args:
            folder: the store.
            plan: what its bytes depend on.
            num_shards: how many shards the plan makes.
            own: the shards that this process sees to; None, all of them, means that nobody else
                is writing here.
            force: replace a store of another plan.
            find_difference: says in what the inputs of the store's plan are others.

        Raises:
            UsageError: the folder holds something else and `force` is off.
        """
        self.folder, self.plan, self.num_shards = Path(folder), plan, num_shards
        self.own = range(num_shards) if own is None else own
        self._find_difference = find_difference
        if self._read_plan() != plan:
            with locked(self.folder, wait=True):  # others may begin the same store at this moment
                self._begin(force=force)
        alone = own is None or self.finished is not None
        patterns = [".*.partial"] if alone else [f".shard-{s:05d}.*.partial" for s in self.own]
        for pattern in patterns:
            for left_over in self.folder.glob(pattern):
                left_over.unlink(missing_ok=True)

    def _begin(self, *, force: bool) -> None:
        known = self._read_plan()
        if known == self.plan:
            return  # another run has begun it since
        if not force and is_in_use(self.folder):
            raise UsageError(
                f"{self.folder} {self._difference(known)}; use --force or another --out"
            )
        # What says that there is a store goes first: no shard is ever missing from one.
        for path in store_files(self.folder):
            path.unlink()
        write_atomic(self.folder / PLAN, _json(asdict(self.plan)))

    def _read_plan(self) -> EncodePlan | None:
        path = self.folder / PLAN
        try:
            known = from_dict(EncodePlan, read_json(path), str(path))
        except (OSError, CheckpointError, UsageError):
            return None
        ours = (self.plan.tokenizer_sha256, self.plan.latents_sha256)
        older = known.latents_sha256 is None  # of a dcht that did not say
        if known.tokenizer_sha256 == ours[0] if older else known.latents_sha256 == ours[1]:
            known = replace(known, tokenizer_sha256=ours[0], latents_sha256=ours[1])
        return known

    def _difference(self, known: EncodePlan | None) -> str:
        if known is None:
            return "is not empty and is not a store of latents"
        old, new = asdict(known), asdict(self.plan)
        key = next(key for key in new if old[key] != new[key])
        if key == "files_sha256" and self._find_difference is not None:
            return f"was made of other inputs: {self._find_difference(known)}"
        known_release = holder(old[key]) if key == "tokenizer_sha256" else ""
        return f"was begun with {key} {old[key]!r}, not {new[key]!r}{known_release}"

    @property
    def finished(self) -> Manifest | None:
        """The manifest, if an earlier run finished this plan."""
        return read_manifest(self.folder) if (self.folder / MANIFEST).exists() else None

    def missing(self, shards: Sequence[int] | None = None) -> list[int]:
        """Which shards (of all, or of these) are not there yet, both of their files."""
        asked = range(self.num_shards) if shards is None else shards
        return [shard for shard in asked if not self._is_there(shard)]

    def _is_there(self, shard: int) -> bool:
        return all(place(self.folder, shard).exists() for place in (tensors_path, rows_path))

    def write(self, shard: int, data: ShardData) -> None:
        """Write a shard."""
        write_shard(self.folder, shard, data, shape=self.plan.shape)

    def discard(self, shards: Iterable[int]) -> None:
        """Remove shards, which are to be made again, and then that the store is finished.

        In this order: only the manifest knows that a shard is damaged, and a run that is killed
        between the two must not leave one that passes for whole.
        """
        for shard in shards:
            for place in (tensors_path, rows_path, stamp_path):
                place(self.folder, shard).unlink(missing_ok=True)
        for name in (MANIFEST, ERRORS):
            (self.folder / name).unlink(missing_ok=True)

    def shards(self, numbers: Iterable[int]) -> Iterator[Shard]:
        """Some shards, which must be there, opened one after another.

        Raises:
            CheckpointError: one is damaged.
        """
        for number in numbers:
            yield Shard(self.folder, number, self.plan.shape)

    def finish(self) -> Manifest:
        """Write `errors.jsonl`, if there are any, and the manifest, which makes it complete.

        Of several processes that find all shards there each may do so: they write the same bytes.

        Raises:
            CheckpointError: a shard is damaged.
        """
        remove_partials(self.folder)
        counts, errors = [], []
        for shard in self.shards(range(self.num_shards)):
            counts.append(shard.count)
            errors += shard.errors()
        if errors:
            write_atomic(self.folder / ERRORS, jsonl(errors))
        hashes = {}
        for shard in range(self.num_shards):
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

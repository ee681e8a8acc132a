"""Whether the shards that are there were made of what their inputs hold now.

A shard records the SHA-256 of all that its inputs were read from, and whoever continues or repeats
an encoding compares. Where no file was written since, by its times, the reading is spared: a stamp
beside the shard says so. It is a cache, which may be deleted and which nothing else depends on.
Whether the shards of a finished store are whole its manifest says.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dcht.data.entries import Entry, digest_all
from dcht.errors import CheckpointError, UsageError
from dcht.files import ERRORS, file_sha256, write_atomic
from dcht.latents import Manifest
from dcht.latents.shards import Shape, Shard, read_shard_rows, rows_path, tensors_path

SETTLED = 2 * 10**9
"""Nanoseconds between the last change of a file and a stamp that speaks of it: a file that is
written twice within the tick of a file system's clock has the same times."""


def stamp_path(folder: Path, shard: int) -> Path:
    """Where the times of a shard's inputs are kept."""
    return folder / f".stamp-{shard:05d}"


def write_stamp(folder: Path, shard: int, inputs: Sequence[Entry]) -> None:
    """Say that a shard was made of files of these times, as they were before they were read."""
    with suppress(UsageError):  # a store that may not be written is read in full each time
        write_atomic(stamp_path(folder, shard), _stamp(inputs).encode())


def _stamp(inputs: Sequence[Entry]) -> str:
    parts = [[[*part[1:5], *part.changed] for part in entry.parts()] for entry in inputs]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest() + "\n"


def _is_stamped(folder: Path, shard: int, inputs: Sequence[Entry]) -> bool:
    path = stamp_path(folder, shard)
    last = max((max(part.changed) for entry in inputs for part in entry.parts()), default=0)
    try:
        made = os.stat(path).st_mtime_ns
        return last + SETTLED < made and path.read_text() == _stamp(inputs)
    except (OSError, ValueError):
        return False


def find_damage(folder: Path, manifest: Manifest, *, hashes: bool) -> dict[int | None, str]:
    """What of a finished store is not as its manifest says, by shard; None: what was skipped.

    Args:
        folder: the store.
        manifest: its own.
        hashes: compare the SHA-256 of every file, too; without, they are there and have as many
            images and rows as they should.
    """
    found: dict[int | None, str] = {}
    for shard, count in enumerate(manifest.shards):
        files = [tensors_path(folder, shard), rows_path(folder, shard)]
        try:
            Shard(folder, shard, manifest.plan.shape, count)
            for _ in read_shard_rows(folder, shard, count):
                pass
        except CheckpointError as error:
            found[shard] = str(error)
            continue
        if hashes and (damage := _find_other(files, manifest)):
            found[shard] = damage
    listing = folder / ERRORS
    if manifest.skipped and not listing.is_file():
        found[None] = f"{listing} is missing"
    elif manifest.skipped and hashes and (damage := _find_other([listing], manifest)):
        found[None] = damage
    return found


def _find_other(files: Sequence[Path], manifest: Manifest) -> str:
    for path in files:
        try:
            if file_sha256(path) != manifest.sha256.get(path.name):
                return f"{path} has another SHA-256 than the manifest says"
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
    return ""


def find_change(folder: Path, shard: int, shape: Shape, inputs: Sequence[Entry]) -> str:
    """What of a shard's inputs is not what it was when it was encoded; nothing if all of it is."""
    try:
        known = Shard(folder, shard, shape).sha256()
    except CheckpointError as error:
        return str(error)
    if known is None:
        return (
            f"{folder} was encoded before dcht recorded what inputs hold; whether they are what "
            "they were cannot be told"
        )
    if len(known) != len(inputs):
        return f"{folder}: shard {shard} was made of {len(known)} inputs, not of {len(inputs)}"
    if _is_stamped(folder, shard, inputs):
        return ""
    for entry, before, now in zip(inputs, known, digest_all(inputs), strict=True):
        if now != before:
            return f"{_changed_part(entry, before, now)} is not what it was when it was encoded"
    write_stamp(folder, shard, inputs)
    return ""


def _changed_part(entry: Entry, before: bytes, now: bytes) -> str:
    """The name of the image, or of the text or fields beside it, that differs."""
    for number, suffix in ((0, ""), (1, entry.text_suffix), (2, ".json")):
        place = slice(32 * number, 32 * (number + 1))
        if before[place] != now[place]:
            return entry.name if not suffix else entry.beside(suffix)
    return entry.name


def find_other_input(folder: Path, shape: Shape, inputs: Sequence[Entry], shard_size: int) -> str:
    """In what the inputs of a store differ from these: the first difference, as a sentence.

    Args:
        folder: the store.
        shape: of its images.
        inputs: what there is to encode now.
        shard_size: inputs that a shard of the store covers.
    """
    for shard in range(-(-len(inputs) // shard_size)):
        if not tensors_path(folder, shard).exists():
            continue
        some = inputs[shard * shard_size : (shard + 1) * shard_size]
        try:
            file = Shard(folder, shard, shape)
            known = {row["file"] for row in read_shard_rows(folder, shard, file.count)}
            known |= {row["file"] for row in file.errors()}
        except CheckpointError as error:
            return str(error)
        names = {entry.name for entry in some}
        if names != known:
            first = min(names ^ known)
            return f"{first} is new" if first in names else f"{first} is not there any more"
        if change := find_change(folder, shard, shape, some):
            return change
    return "what tables say of its images is another, or an input that was not encoded yet"

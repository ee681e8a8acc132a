"""Images with captions and labels as WebDataset tars: the work behind `dcht shard`.

Images are stored as they are, byte for byte. Each tar appears whole or not at all, beside a record
of what it was made of; a run that was stopped goes on, and one whose inputs changed is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

from dcht.data.captions import encode_captions
from dcht.data.entries import READERS, Entry, digest_all, hash_entries, refuse_removing
from dcht.data.labels import LABEL, encode_class
from dcht.data.sources import Inputs, find_inputs
from dcht.errors import UsageError
from dcht.files import ERRORS, begin, jsonl, locked, partial_path, read_json, write_atomic
from dcht.images import FORMATS

RECORD = ".shards.json"
AT_ONCE = 64
"""Images that are in memory at a time."""
SUFFIXES = {"JPEG": "jpg", "MPO": "jpg"}
"""Of formats that are not called like their suffix."""


class Packed(NamedTuple):
    """What there is after a run."""

    images: int
    skipped: int
    shards: int
    written: int
    """Shards that this run wrote."""
    unread: list[str]
    tables: list[str]


class _Sample(NamedTuple):
    """An input as members of a tar by suffix, or why it has none."""

    digest: bytes
    members: dict[str, bytes]
    problem: str = ""


def write_shards(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    shard_size: int = 1000,
    seed: int | None = None,
    follow_links: bool = False,
    strict: bool = False,
    force: bool = False,
) -> Packed:
    """Write every image of some sources (see `find_inputs`) into tars `00000.tar` and on.

    Args:
        sources: folders, tar archives, Parquet, lists, or patterns of such.
        out: folder to write; what lies in it is no input, though it be below one.
        shard_size: inputs a tar.
        seed: of the order; None: by name.
        follow_links: whether links in folders may lead out of them.
        strict: stop at the first input that cannot be read.
        force: begin anew, whatever is there.

    Raises:
        UsageError: no images, `out` holds something else, an input has changed or, with `strict`,
            cannot be read.
    """
    out = Path(out)
    inputs = find_inputs(sources, follow_links=follow_links, out=out)
    entries = list(inputs.entries)
    if seed is not None:
        random.Random(seed).shuffle(entries)
    shards = [entries[start : start + shard_size] for start in range(0, len(entries), shard_size)]
    made_of = {"files_sha256": hash_entries(entries), "shard_size": shard_size, "seed": seed}
    with locked(out):
        # Whatever else is called *.tar is somebody's own.
        records = [*out.glob(".*.tar.json")]
        written = [out / path.name.removeprefix(".").removesuffix(".json") for path in records]
        old = [path.name for path in (*out.glob("[0-9]" * 5 + ".tar"), *written, *records)]
        if force:
            refuse_removing(entries, [out / name for name in old])
        begin(out, RECORD, made_of, files=[*old, ERRORS], force=force)
        return _write(out, shards, inputs, strict=strict)


def _write(out: Path, shards: Sequence[Sequence[Entry]], inputs: Inputs, *, strict: bool) -> Packed:
    written = images = 0
    errors: list[dict[str, str]] = []
    total = sum(map(len, shards))
    with tqdm(total=total, unit="img", desc="shard", disable=None) as progress:
        for number, entries in enumerate(shards):
            path = out / f"{number:05d}.tar"
            made = _kept(path, entries)
            if made is None:
                first = sum(map(len, shards[:number]))
                made = _write_shard(path, entries, first, strict=strict)
                written += 1
            elif strict and made["errors"]:
                first_bad = made["errors"][0]
                raise UsageError(f"{first_bad['file']}: {first_bad['reason']}")
            errors += made["errors"]
            images += len(entries) - len(made["errors"])
            progress.update(len(entries))
    if errors:
        write_atomic(out / ERRORS, jsonl(sorted(errors, key=lambda row: row["file"])))
    else:
        (out / ERRORS).unlink(missing_ok=True)
    return Packed(images, len(errors), len(shards), written, inputs.unread, inputs.tables)


def _record(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _kept(path: Path, entries: Sequence[Entry]) -> dict[str, Any] | None:
    """The record of a tar that is there and whole; None if it has to be written.

    Raises:
        UsageError: it was made of what its inputs do not hold now.
    """
    try:
        made = read_json(_record(path))
        if path.stat().st_size != made["bytes"]:
            return None
    except (OSError, UsageError, KeyError):
        return None
    if made.get("sha256") != _hash(digest_all(entries)):
        raise UsageError(
            f"{path} was made of inputs that have changed; use --force or another --out"
        )
    return made


def _hash(digests: Iterator[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _write_shard(
    path: Path, entries: Sequence[Entry], first: int, *, strict: bool
) -> dict[str, Any]:
    """Write a tar and its record, which is returned."""
    errors, digests = [], []
    partial = partial_path(path)
    try:
        with partial.open("xb") as file, ThreadPoolExecutor(READERS) as pool:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for start in range(0, len(entries), AT_ONCE):
                    some = entries[start : start + AT_ONCE]
                    for number, sample in enumerate(pool.map(_sample, some), first + start):
                        digests.append(sample.digest)
                        name = entries[number - first].name
                        if sample.problem and strict:
                            raise UsageError(f"{name}: {sample.problem}")
                        if sample.problem:
                            errors.append({"file": name, "reason": sample.problem})
                        _add(tar, f"{number:09d}", sample.members)
            file.flush()
            os.fsync(file.fileno())
        made = {"sha256": _hash(iter(digests)), "bytes": partial.stat().st_size, "errors": errors}
        # The record first: a tar without one is written again, a record without a tar is nothing.
        write_atomic(_record(path), json.dumps(made).encode("utf-8", "backslashreplace"))
        os.replace(partial, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return made


def _add(tar: tarfile.TarFile, key: str, members: dict[str, bytes]) -> None:
    for suffix, content in members.items():
        member = tarfile.TarInfo(f"{key}.{suffix}")  # of no time and nobody: bytes that repeat
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _sample(entry: Entry) -> _Sample:
    content = entry.read()
    digest = content.sha256()
    try:
        content.open()
        row = entry.row(content)
    except UsageError as error:
        return _Sample(digest, {}, str(error))
    assert content.image is not None
    with Image.open(io.BytesIO(content.image), formats=FORMATS) as image:
        kind = str(image.format)
    suffix = SUFFIXES.get(kind, kind.lower())
    return _Sample(digest, {suffix: content.image, **_beside(entry.name, row)})


def _beside(name: str, row: dict[str, Any]) -> dict[str, bytes]:
    """What a row says, in the files that say the same again when they are read."""
    row = {key: value for key, value in row.items() if key != "file"}
    captions = row.pop("captions", [row["caption"]] if row["caption"] is not None else [])
    del row["caption"]
    members: dict[str, bytes] = {}
    if (text := encode_captions(captions)) is None:
        row["captions"] = captions
    elif captions:
        members["txt"] = text
    if (label := encode_class(row.get(LABEL))) is not None:
        members["cls"] = label
        del row[LABEL]
    row.setdefault("source", name)
    members["json"] = jsonl([row])
    return members

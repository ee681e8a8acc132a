"""What a set of files holds, as one hash: whether it still is what a run began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from dcht.data.entries import Part
from dcht.images import ImageError

READ = 1 << 30
"""Bytes that are read at most: a second or two. A larger set is known by all names and sizes, and
by the content of files spread evenly over it."""


def contents_sha256(parts: Sequence[tuple[str, Part]]) -> str:
    """A hash of the names, sizes and contents of files; see `READ` for a set larger than that.

    When a file was written does not count. One that cannot be read counts as that.
    """
    digest = hashlib.sha256()
    total = sum(part.size for _, part in parts)
    every = max(1, -(-total // READ))
    for number, (name, part) in enumerate(parts):
        row = [name, part.size, _content_sha256(part) if number % every == 0 else None]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _content_sha256(part: Part) -> str | None:
    try:
        return hashlib.sha256(part.read()).hexdigest()
    except ImageError:
        return None

"""What an input is: an image somewhere on disk with what is known of it, or what is wrong with it.

Everything is read by size and place, a member of an archive like a whole file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import posixpath
import stat
import zlib
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from PIL import Image

from dcht.captions import caption_row, decode_text, read_json
from dcht.files import open_regular
from dcht.images import ImageError, open_image

MAX_BYTES = 1 << 28
"""Largest file that is read: an uncompressed image of four bytes a pixel just below the cap."""
SIDECARS = (".txt", ".json")


class Part(NamedTuple):
    """Bytes on disk: a whole file, or a member of an archive."""

    file: str
    size: int
    offset: int = 0
    deflated: int = 0
    """Bytes on disk of a zip's deflated member; 0: they are as they are."""

    def read(self) -> bytes:
        """The bytes.

        Raises:
            ImageError: they are not all there, too many, or not in a regular file.
        """
        if self.size > MAX_BYTES:
            raise ImageError(f"{self.size:,} bytes; the cap is {MAX_BYTES:,}")
        try:
            with open_regular(self.file) as file:
                file.seek(self.offset)
                content = file.read(self.deflated or self.size)
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from None
        if self.deflated:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, self.size)
            except zlib.error as error:
                raise ImageError(f"damaged: {error}") from None
        if len(content) < self.size:
            raise ImageError(f"cut short: {len(content):,} of {self.size:,} bytes")
        return content


class Entry(NamedTuple):
    """An input: an image with what is known of it, or what is wrong with it."""

    name: str
    """Where it is, below the folder or archive that was named; parts joined by `/`."""
    image: Part | None = None
    """None if there is a `problem`."""
    text: Part | None = None
    fields: Part | None = None
    metadata: dict[str, Any] | None = None
    problem: str = ""

    def open(self) -> Image.Image:
        """The image, checked and decoded as `dcht.images.open_image` does.

        Raises:
            ImageError: there is a problem with it.
        """
        if self.image is None:
            raise ImageError(self.problem)
        return open_image(io.BytesIO(self.image.read()))

    def row(self) -> dict[str, Any]:
        """Its `file`, `caption` and other fields (see `dcht.captions`).

        Raises:
            UsageError: the text or fields beside it cannot be read.
        """
        fields = dict(self.metadata or {})
        if self.fields is not None:
            name = self._beside(".json")
            content = read_json(name, decode_text(name, self.fields.read()))
            fields |= content if isinstance(content, dict) else {"json": content}
        text = None
        if self.text is not None:
            text = decode_text(self._beside(".txt"), self.text.read())
        return caption_row(self.name, fields, text)

    def _beside(self, suffix: str) -> str:
        return posixpath.splitext(posixpath.basename(self.name))[0] + suffix


def hash_entries(entries: Sequence[Entry]) -> str:
    """A hash of names, sizes and metadata: of what can be known without reading every file."""
    digest = hashlib.sha256()
    for entry in entries:
        sizes = [None if part is None else part.size for part in (entry.image, *entry[2:4])]
        digest.update(json.dumps([entry.name, sizes, entry.metadata]).encode())
    return digest.hexdigest()


def file_entry(
    path: str, name: str, *, inside: str | None = None, siblings: Collection[str] | None = None
) -> Entry:
    """An image that is a file, with the `.txt` and `.json` beside it."""
    try:
        image = file_part(path, inside=inside)
        beside: dict[str, Part | None] = {}
        for suffix in SIDECARS:
            other = os.path.splitext(path)[0] + suffix
            there = (
                os.path.lexists(other) if siblings is None else os.path.basename(other) in siblings
            )
            beside[suffix] = file_part(other, inside=inside) if there else None
    except ImageError as error:
        return Entry(name, problem=str(error))
    return Entry(name, image, text=beside[".txt"], fields=beside[".json"])


def file_part(path: str, *, inside: str | None = None) -> Part:
    """A whole file as a `Part`.

    Raises:
        ImageError: not a regular file, or a link that leads out of the folder `inside`.
    """
    label = os.path.basename(path)
    try:
        leads_out = inside is not None and os.path.islink(path) and not _is_below(inside, path)
        info = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"{label} cannot be read: {reason}") from None
    if leads_out:
        raise ImageError(f"{label} is a link out of the folder; a list may name its target")
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(f"{label} is not a regular file")
    return Part(path, info.st_size)


def _is_below(folder: str, path: str) -> bool:
    return os.path.commonpath([folder, os.path.realpath(path)]) == folder

"""What an input is: an image somewhere on disk with what is known of it, or what is wrong with it.

Everything is read by size and place, a member of an archive like a whole file. What was read has a
SHA-256, by which everything is kept that is made of it: names and sizes stay when an image is
painted over.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import posixpath
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from dcht.data.beside import FIELDS, TEXTS, FindName, find_beside, on_disk
from dcht.data.captions import caption_row, decode_text
from dcht.data.cells import Cell, read_cell
from dcht.data.labels import CLASS_SUFFIX, LABEL, MAX_LABEL, decode_class, plain_label
from dcht.errors import UsageError
from dcht.files import open_regular, parse_json
from dcht.images import ImageError, open_image

MAX_BYTES = 1 << 28
"""Largest file that is read: an uncompressed image of four bytes a pixel just below the cap."""
MAX_SIDECAR = 1 << 24
"""Largest file beside an image that is read."""
READERS = min(16, max(4, os.cpu_count() or 4))
"""Threads that read and decode images (decoding releases the interpreter lock)."""
DIGESTS = 1024
"""Inputs that wait for those threads at a time."""


class Part(NamedTuple):
    """Bytes on disk: a whole file, a member of an archive, or a value in a Parquet file."""

    file: str
    size: int
    """In bytes; of a value in a Parquet file the mean of its row group."""
    offset: int = 0
    deflated: int | None = None
    """Bytes on disk of a zip's deflated member; None: they are as they are."""
    crc: int | None = None
    """CRC-32 of the bytes, where an archive says it."""
    changed: tuple[int, int] = (0, 0)
    """When the file was last written (mtime and ctime, ns), as it was listed. Never part of what
    is made of an input: it may spare reading the bytes again, nothing else. Of a file on the Hub
    its revision, as a number."""
    cell: Cell | None = None
    """Where in a Parquet file it is."""

    def read(self, *, cap: int = MAX_BYTES) -> bytes:
        """The bytes.

        Raises:
            ImageError: they are not all there, too many, or not in a regular file.
        """
        if self.cell is not None:
            return read_cell(self.file, self.changed, self.cell, cap=cap)
        stored = self.size if self.deflated is None else self.deflated
        if max(self.size, stored) > cap:
            raise ImageError(f"{max(self.size, stored):,} bytes; the cap is {cap:,}")
        try:
            with open_regular(self.file) as file:
                file.seek(self.offset)
                content = file.read(stored)
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from None
        if self.deflated is not None:
            try:
                # One byte more than it says, and no bomb: what says less than it holds is a lie.
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, self.size + 1)
            except zlib.error as error:
                raise ImageError(f"damaged: {error}") from None
        if len(content) < self.size:
            raise ImageError(f"cut short: {len(content):,} of {self.size:,} bytes")
        if len(content) > self.size:
            raise ImageError(f"damaged: more than the {self.size:,} bytes that it says it has")
        if self.crc is not None and zlib.crc32(content) != self.crc:
            raise ImageError("damaged: its checksum (CRC-32) is another")
        return content


NOTHING = bytes(hashlib.sha256().digest_size)


class Content(NamedTuple):
    """The bytes that an input is made of, or why they cannot be had."""

    image: bytes | None = None
    text: bytes | None = None
    """Of its `.txt`, or of what stands for one."""
    fields: bytes | None = None
    """Of its `.json`."""
    problem: str = ""

    def open(self) -> Image.Image:
        """The image, checked and decoded as `dcht.images.open_image` does.

        Raises:
            ImageError: there is a problem with it.
        """
        if self.image is None:
            raise ImageError(self.problem)
        return open_image(io.BytesIO(self.image))

    def sha256(self) -> bytes:
        """SHA-256 of the image (or of the problem), the text and the fields; zeros for none."""
        parts = (
            self.problem.encode(errors="backslashreplace") if self.problem else self.image,
            self.text,
            self.fields,
        )
        return b"".join(
            NOTHING if part is None else hashlib.sha256(part).digest() for part in parts
        )


class Entry(NamedTuple):
    """An input: an image with what is known of it, or what is wrong with it."""

    name: str
    """Where it is, below the folder or archive that was named; parts joined by `/`."""
    image: Part | None = None
    """None if there is a `problem`."""
    text: Part | None = None
    fields: Part | None = None
    metadata: dict[str, Any] | None = None
    """What a table says of it, and its `.cls`."""
    problem: str = ""
    text_suffix: str = TEXTS[0]
    """Of the file that is its text."""

    def read(self, *, image: bool = True, beside: bool = True) -> Content:
        """The bytes of the image, and of what stands beside it; or only one of the two."""
        if self.image is None:
            return Content(problem=self.problem)
        content = Content()
        for part, field, label, asked in (
            (self.image, "image", "", image),
            (self.text, "text", self.text_suffix, beside),
            (self.fields, "fields", FIELDS, beside),
        ):
            if part is None or not asked:
                continue
            try:
                read = part.read(cap=MAX_SIDECAR if label else MAX_BYTES)
            except ImageError as error:
                where = f"{self.beside(label)}: " if label else ""
                return content._replace(problem=f"{where}{error}")
            content = content._replace(**{field: read})
        return content

    def open(self) -> Image.Image:
        """The image, checked and decoded as `dcht.images.open_image` does.

        Raises:
            ImageError: there is a problem with it.
        """
        return self.read(beside=False).open()

    def row(self, content: Content | None = None) -> dict[str, Any]:
        """Its `file`, `caption` and other fields (see `dcht.data.captions`).

        Args:
            content: what was read already.

        Raises:
            UsageError: the text or fields beside it cannot be read.
        """
        content = content or self.read(image=False)
        if content.problem:
            raise ImageError(content.problem)
        fields, text = None, None
        if content.fields is not None:
            name = self.beside(FIELDS)
            found = parse_json(decode_text(name, content.fields), name)
            fields = found if isinstance(found, dict) else {"json": found}
        if content.text is not None:
            text = decode_text(self.beside(self.text_suffix), content.text)
        row = caption_row(self.name, text, fields, self.metadata)
        if LABEL in row:
            row[LABEL] = plain_label(row[LABEL])
        return row

    def parts(self) -> Iterator[Part]:
        """The places on disk that it is read from."""
        yield from (part for part in (self.image, self.text, self.fields) if part is not None)

    def beside(self, suffix: str) -> str:
        """The name of the file beside it with a suffix."""
        return posixpath.splitext(self.name)[0] + suffix

    def with_table(self, fields: dict[str, Any]) -> Entry:
        """It with what tables say of it; a `.cls` goes before them."""
        return self._replace(metadata={**fields, **(self.metadata or {})} or None)


def read_class(part: Part) -> dict[str, Any]:
    """The field that a `.cls` is: one class, a number or a name.

    Raises:
        ImageError: it is none, or cannot be read.
    """
    try:
        content = part.read(cap=MAX_LABEL)
    except ImageError as error:
        raise ImageError(f"{CLASS_SUFFIX}: {error}") from None
    try:
        return {LABEL: decode_class(content)}
    except UsageError as error:
        raise ImageError(str(error)) from None


def refuse_removing(entries: Sequence[Entry], doomed: Iterable[Path]) -> None:
    """Refuse to remove files that inputs are read from: `--force` replaces results, never those.

    Raises:
        UsageError: naming the first.
    """
    gone = {os.path.realpath(path) for path in doomed}
    if not gone:
        return
    for file in {part.file for entry in entries for part in entry.parts()}:
        if os.path.realpath(file) in gone:
            raise UsageError(f"{file} is an input, and would be removed; use another --out")


def hash_entries(entries: Sequence[Entry]) -> str:
    """A hash of names, sizes and metadata: of what can be known without reading every file.

    It distinguishes lists of inputs, and no more: what is kept of an input is kept by its content.
    """
    digest = hashlib.sha256()
    for entry in entries:
        three = (entry.image, entry.text, entry.fields)
        sizes = [None if part is None else part.size for part in three]
        digest.update(json.dumps([entry.name, sizes, entry.metadata]).encode())
    return digest.hexdigest()


def digest_all(entries: Sequence[Entry], *, beside: bool = True) -> Iterator[bytes]:
    """`Content.sha256()` of some inputs, in order, read by several threads."""
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(entries), DIGESTS):
            some = entries[start : start + DIGESTS]
            yield from pool.map(lambda entry: entry.read(beside=beside).sha256(), some)


def content_sha256(entries: Sequence[Entry]) -> str:
    """A hash of what the images of some inputs hold, in order, or of why one cannot be read.

    What is made of images alone is kept by it; names and captions are not in it.
    """
    digest = hashlib.sha256()
    for found in digest_all(entries, beside=False):
        digest.update(found[: len(NOTHING)])
    return digest.hexdigest()


def file_entry(
    path: str, name: str, *, inside: Sequence[str] | None = None, find: FindName = on_disk
) -> Entry:
    """An image that is a file, with what stands beside it (`dcht.data.beside`).

    Args:
        path: the file.
        name: what it is called.
        inside: folders in one of which every link must end; None: links may lead anywhere.
        find: finds the files beside it, by their paths.
    """
    beside = find_beside([os.path.splitext(path)[0]], find)
    try:
        image = file_part(path, inside=inside)
        parts = [None if there is None else file_part(there, inside=inside) for there in beside]
        return join_entry(name, image, *parts, text_name=beside.text)
    except ImageError as error:
        return Entry(name, problem=str(error))


def join_entry(
    name: str,
    image: Part,
    text: Part | None,
    fields: Part | None,
    label: Part | None,
    *,
    text_name: str | None,
) -> Entry:
    """An image with what stands beside it.

    Raises:
        ImageError: its `.cls` holds no class.
    """
    suffix = TEXTS[0] if text_name is None else posixpath.splitext(text_name)[1]
    metadata = None if label is None else read_class(label)
    return Entry(name, image, text, fields, metadata, text_suffix=suffix)


def file_part(path: str, *, inside: Sequence[str] | None = None) -> Part:
    """A whole file as a `Part`.

    Raises:
        ImageError: not a regular file, or a link that leads out of the folders `inside`.
    """
    label = os.path.basename(path)
    try:
        leads_out = (
            inside is not None
            and os.path.islink(path)
            and not any(_is_below(folder, path) for folder in inside)
        )
        info = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"{label} cannot be read: {reason}") from None
    if leads_out:
        raise ImageError(f"{label} is a link out of the folder; --follow-links reads it")
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(f"{label} is not a regular file")
    return Part(path, info.st_size, changed=(info.st_mtime_ns, info.st_ctime_ns))


def _is_below(folder: str, path: str) -> bool:
    return os.path.commonpath([folder, os.path.realpath(path)]) == folder

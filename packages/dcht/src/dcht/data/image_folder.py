"""A folder of images that a command writes one by one, and goes on with when it is repeated.

Each image says in its PNG of what it was made, by SHA-256: one that was made of something else
is made anew.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from dcht.errors import UsageError
from dcht.files import (
    ERRORS,
    LOCK,
    jsonl,
    read_json,
    read_rows,
    remove_partials,
    require_unused,
    write_atomic,
)
from dcht.images import ImageError, read_png_text, save_png

RECORD = ".settings.json"
MADE_OF = "source_sha256"
"""In the PNG: what the image was made of."""
LONGEST = 255 - len(".png")
"""Bytes of a name that file systems take."""
BAD_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL,
            errno.EILSEQ)  # fmt: skip
"""What a system answers to a name under which nothing can be written."""


class ImageOrigin(NamedTuple):
    """What an image is made of."""

    name: str
    sha256: str


class ImageFolder:
    """`NAME.png` for each named image, and a record of the settings they were made with."""

    def __init__(self, out: str | Path, settings: dict[str, Any], *, force: bool) -> None:
        """Begin, or go on with what an earlier run of the same settings made.

        Args:
            out: the folder.
            settings: everything the images depend on, but for their sources; plain JSON values.
            force: begin anew, whatever is there; images that were made here are removed.

        Raises:
            UsageError: it holds something else, or images made with other settings.
        """
        self.out = Path(out)
        record = self.out / RECORD
        self.fresh = force or not record.exists()
        if not self.fresh and read_json(record) != settings:
            raise UsageError(f"{out} was made with other settings; use --force or another --out")
        if self.fresh:
            require_unused(self.out, force=force)
            self.out.mkdir(parents=True, exist_ok=True)
            self._clear()
            write_atomic(record, json.dumps(settings).encode())
        remove_partials(self.out, below=True)
        listing = self.out / ERRORS
        rows = read_rows(listing) if not self.fresh and listing.exists() else []
        self._errors = {row["file"]: row for row in rows if isinstance(row.get("file"), str)}
        self._owners: dict[Path, str] = {}

    def _clear(self) -> None:
        # Under the new record, images made with other settings would pass for made.
        for name in (RECORD, ERRORS):
            (self.out / name).unlink(missing_ok=True)
        for path in self.out.rglob("*.png"):
            _remove_made(path)

    def path(self, name: str) -> Path:
        """Where an image goes: inside the folder, whatever its name."""
        # The whole name is kept (photo.jpg.png), or photo.jpg and photo.png would be one image.
        plain = PurePosixPath(name.replace("\0", "")).parts
        parts = [_writable(part) for part in plain if part not in ("/", "//", "..")]
        return self.out.joinpath(*parts[:-1], f"{parts[-1] if parts else 'picture'}.png")

    def has(self, sources: Iterable[ImageOrigin], *, strict: bool = False) -> bool:
        """Whether each of these was made by an earlier run, or listed as an error if not `strict`.

        What is strict stops at an error: it has to meet it again.
        """
        return not self.fresh and all(
            (not strict and self._errors.get(source.name, {}).get("sha256") == source.sha256)
            or self._is_made(source)
            for source in sources
        )

    def _is_made(self, source: ImageOrigin) -> bool:
        try:
            return read_png_text(self._claim(source.name)).get(MADE_OF) == source.sha256
        except ImageError:
            return False

    def _claim(self, name: str) -> Path:
        """The path of a name's image.

        Raises:
            ImageError: another image of this run has it, or none can have it.
        """
        path = self.path(name)
        if (owner := self._owners.setdefault(path, name)) != name:
            raise ImageError(f"its image would be that of {owner}")
        try:
            path.lstat()
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            raise ImageError(f"no file can have its name: {error}") from None
        return path

    def save(self, source: ImageOrigin, image: Image.Image) -> None:
        """Write an image.

        Raises:
            ImageError: nothing can be written under its name.
        """
        path = self._claim(source.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in BAD_NAME:
                raise
            raise ImageError(f"no file can have its name: {error.strerror}") from None
        if path.is_dir():
            raise ImageError("its image would be in the place of a folder")
        save_png(image, path, {MADE_OF: source.sha256})

    def finish(
        self, sources: Sequence[ImageOrigin], errors: Sequence[dict[str, str]]
    ) -> list[dict[str, str]]:
        """Write `errors.jsonl` anew, or remove it where there are none.

        Args:
            sources: all that this run was about.
            errors: what failed now: file, reason and the SHA-256 of what was read.

        Returns:
            What failed of the sources, now or in an earlier run that met the same.
        """
        failed = {row["file"]: row for row in errors}
        for source in sources:
            known = self._errors.pop(source.name, {})
            if source.name not in failed and known.get("sha256") == source.sha256:
                failed[source.name] = known
        rows = sorted([*self._errors.values(), *failed.values()], key=lambda row: row["file"])
        if rows:
            write_atomic(self.out / ERRORS, jsonl(rows))
        else:
            (self.out / ERRORS).unlink(missing_ok=True)
        for name in failed:  # what an earlier run could make of it
            path = self.path(name)
            if self._owners.get(path, name) == name:
                _remove_made(path)
        return [failed[name] for name in sorted(failed)]


def _remove_made(path: Path) -> None:
    """Remove an image that was made here; one of the same name that a user put there stays."""
    with suppress(ImageError, OSError):
        if MADE_OF in read_png_text(path):
            path.unlink()


def _writable(part: str) -> str:
    """A part of a path that is neither one of ours nor longer than file systems take."""
    if part.lower() in (LOCK, RECORD, ERRORS):
        return f"{part}~"
    try:
        content = os.fsencode(part)
    except UnicodeEncodeError:  # half of a surrogate pair, from a JSON text
        content = part.encode(errors="backslashreplace")
        part = content.decode()
    if len(content) <= LONGEST:
        return part
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{content[: LONGEST - len(digest) - 1].decode(errors='ignore')}~{digest}"

"""A folder of pictures that a command writes one by one, and goes on with when it is repeated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from dcht.errors import UsageError
from dcht.files import (
    ERRORS,
    jsonl,
    read_json,
    read_rows,
    remove_partials,
    require_unused,
    write_atomic,
)
from dcht.images import save_png


class PictureFolder:
    """`NAME.png` for each named picture, and a record of the settings they were made with."""

    def __init__(self, out: str | Path, settings: dict[str, Any], *, force: bool) -> None:
        """Begin, or go on with what an earlier run of the same settings made.

        Args:
            out: the folder.
            settings: everything the pictures depend on, but for their sources; plain JSON values.
            force: write over what is there.

        Raises:
            UsageError: it holds something else, or pictures made with other settings.
        """
        self.out = Path(out)
        record = self.out / ".settings.json"
        self._fresh = force or not record.exists()
        if not self._fresh and read_json(record) != settings:
            raise UsageError(f"{out} was made with other settings; use --force or another --out")
        if self._fresh:
            require_unused(self.out, force=force)
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomic(record, json.dumps(settings).encode())
        remove_partials(self.out, below=True)
        listing = self.out / ERRORS
        rows = read_rows(listing) if not self._fresh and listing.exists() else []
        self._errors = {row["file"]: row for row in rows}

    def path(self, name: str) -> Path:
        """Where a picture goes: inside the folder, whatever its name."""
        # The whole name is kept (photo.jpg.png), or photo.jpg and photo.png would be one picture.
        plain = PurePosixPath(name.replace("\0", "")).parts
        parts = [part for part in plain if part not in ("/", "//", "..")]
        return self.out.joinpath(*parts[:-1], f"{parts[-1] if parts else 'picture'}.png")

    def has(self, names: Sequence[str]) -> bool:
        """Whether each of these was made, or listed as an error, by an earlier run."""
        return not self._fresh and all(
            name in self._errors or self.path(name).exists() for name in names
        )

    def save(self, name: str, picture: Image.Image) -> None:
        """Write a picture."""
        save_png(picture, self.path(name))

    def finish(self, errors: list[dict[str, str]]) -> list[dict[str, str]]:
        """Write `errors.jsonl`, if this run or an earlier one met any; return them all."""
        known = self._errors | {row["file"]: row for row in errors}
        if errors:
            write_atomic(self.out / ERRORS, jsonl(list(known.values())))
        return list(known.values())

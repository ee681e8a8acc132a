"""Captions and other fields of images, from the files that name or accompany them.

Three conventions are read: `photo.txt` beside `photo.jpg` (a caption a line), `photo.json` (an
object with `caption`, `captions` or `text`, and whatever else it holds), and one table for many
images: `metadata.jsonl` or `metadata.csv` with a column `file_name`, as Hugging Face's imagefolder
has it. The same tables, and plain lists of paths, name the inputs of `dcht encode`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from dcht.errors import UsageError

METADATA = ("metadata.jsonl", "metadata.csv")
PATH_KEYS = ("file_name", "path", "file")
CAPTION_KEYS = ("captions", "caption", "text")


class Named(NamedTuple):
    """A line of a table: an image with its fields, or what is wrong with the line."""

    path: str
    fields: dict[str, Any]
    problem: str | None = None


def read_table(name: str, content: bytes) -> Iterator[Named]:
    """The images that a table names: `.jsonl`, `.csv`, or else one path a line.

    A line that cannot be understood comes out with its `problem`, and with its place as its path.

    Raises:
        UsageError: this is not a text in UTF-8.
    """
    text = decode_text(name, content)
    if name.endswith(".jsonl"):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield _named(f"{name} line {number}", line)
    elif name.endswith(".csv"):
        yield from _read_csv(name, text)
    else:
        yield from (Named(line, {}) for line in text.splitlines() if line.strip())


def _named(place: str, line: str) -> Named:
    try:
        return _pick_path(place, read_json(place, line))
    except UsageError as error:
        return Named(place, {}, str(error))


def _read_csv(name: str, text: str) -> Iterator[Named]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            # Where the next row begins is not known either.
            yield Named(f"{name} line {rows.line_num}", {}, f"not CSV: {error}")
            return
        if row is None:
            return
        fields = {key: value for key, value in row.items() if key is not None and value}
        yield _pick_path(f"{name} line {rows.line_num}", fields)


def _pick_path(place: str, fields: object) -> Named:
    if not isinstance(fields, dict):
        return Named(place, {}, "not an object with a file_name")
    for key in PATH_KEYS:
        if isinstance(path := fields.get(key), str) and path:
            return Named(path, {other: fields[other] for other in fields if other != key})
    return Named(place, {}, f"names no image: one of {', '.join(PATH_KEYS)} should")


def decode_text(name: str, content: bytes) -> str:
    """Bytes as UTF-8 text, with or without a byte order mark.

    Raises:
        UsageError: they are not.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not a text in UTF-8 (byte {error.start})") from None


def read_json(name: str, text: str) -> Any:
    """The value of a JSON text.

    Raises:
        UsageError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # nested too deep is no better than no JSON
        raise UsageError(f"{name}: not JSON: {error}") from None


def caption_row(name: str, fields: dict[str, Any], text: str | None) -> dict[str, Any]:
    """What a store keeps of an image: `file`, `caption` (or None), `captions` where several.

    Args:
        name: the image's name, whatever `fields` says.
        fields: what else is known of it; kept.
        text: the content of its `.txt`; goes before captions in `fields`.
    """
    captions = [line.strip() for line in (text or "").splitlines() if line.strip()]
    captions = captions or _captions(fields)
    row = {**fields, "file": name, "caption": captions[0] if captions else None}
    row.pop("captions", None)
    if len(captions) > 1:
        row["captions"] = captions
    return row


def _captions(fields: dict[str, Any]) -> list[str]:
    for key in CAPTION_KEYS:
        value = fields.get(key)
        texts = value if isinstance(value, list) else [value]
        if found := [text for text in texts if isinstance(text, str) and text.strip()]:
            return found
    return []

"""Captions and other fields of images, from the files that name or accompany them.

Three conventions are read: `photo.txt` beside `photo.jpg` (a caption a line), `photo.json` (an
object with `caption`, `captions` or `text`, and whatever else it holds), and one table for many
images: `metadata.jsonl` or `metadata.csv` with a column `file_name`, as Hugging Face's imagefolder
has it. The same tables, and plain lists of paths, name the inputs of `dcht encode`.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dcht.data.labels import LABEL, parse_label
from dcht.errors import UsageError
from dcht.files import parse_json

METADATA = ("metadata.jsonl", "metadata.csv")
TEXT_SUFFIXES = (
    ".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".caption", ".cap", ".cls",
)  # fmt: skip
"""What captions and labels come in. A file of these that is not read is named to the user."""
PATH_KEYS = ("file_name", "path", "file")
CAPTION_KEYS = ("captions", "caption", "text")

# A field is as long as it is: the module's own limit ends a table at 131,072 characters.
csv.field_size_limit(1 << 30)


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
    suffix = posixpath.splitext(name)[1].lower()
    if suffix == ".jsonl":
        for number, line in enumerate(io.StringIO(text), start=1):
            if line.strip():
                yield _named(f"{name} line {number}", line)
    elif suffix == ".csv":
        yield from _read_csv(name, text)
    else:
        yield from (Named(line, {}) for line in split_lines(text) if line.strip())


def _named(place: str, line: str) -> Named:
    try:
        return _pick_path(place, parse_json(line, place))
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
        place = f"{name} line {rows.line_num}"
        if None in row:
            reason = "more fields than the first line has; what holds a comma stands in quotes"
            yield Named(place, {}, reason)
        else:
            fields: dict[str, Any] = {key.strip(): value for key, value in row.items() if value}
            if LABEL in fields:  # a column of JSON has numbers, one of CSV texts
                fields[LABEL] = parse_label(fields[LABEL])
            yield _pick_path(place, fields)


def _pick_path(place: str, fields: object) -> Named:
    if not isinstance(fields, dict):
        return Named(place, {}, "not an object with a file_name")
    for key in PATH_KEYS:
        if isinstance(path := fields.get(key), str) and path:
            return Named(path, {other: fields[other] for other in fields if other != key})
    return Named(place, {}, f"names no image: one of {', '.join(PATH_KEYS)} should")


def merge_fields(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several rows say of one image: every caption, and of other fields the first value."""
    if len(rows) == 1:
        return rows[0]
    merged = {key: value for row in reversed(rows) for key, value in row.items()}
    captions = list(dict.fromkeys(text for row in rows for text in find_captions(row)))
    return merged | ({"captions": captions} if captions else {})


def decode_text(name: str, content: bytes) -> str:
    """Bytes as UTF-8 text, with or without a byte order mark.

    Raises:
        UsageError: they are not.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not a text in UTF-8 (byte {error.start})") from None


def split_lines(text: str) -> Iterator[str]:
    """The lines of a text as editors end them.

    `str.splitlines` also splits at what stands inside of lines: U+2028, U+0085, form feeds.
    """
    return (line.removesuffix("\n") for line in io.StringIO(text, newline=None))


def caption_row(
    name: str,
    text: str | None,
    fields: dict[str, Any] | None,
    metadata: dict[str, Any] | None,
) -> dict[str, Any]:
    """What a store keeps of an image: `file`, `caption` (or None), `captions` where several.

    Args:
        name: the image's name, whatever the fields say.
        text: the content of its `.txt`; its captions go before all others.
        fields: of its `.json`; kept, and its captions go before those of a table.
        metadata: what a table says of it; kept.

    Raises:
        UsageError: a caption is no text: it holds half of a surrogate pair.
    """
    captions = [line.strip() for line in split_lines(text or "") if line.strip()]
    captions = captions or find_captions(fields or {}) or find_captions(metadata or {})
    for caption in captions:
        try:
            caption.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"its caption is no text: {error.reason}") from None
    row = {**(metadata or {}), **(fields or {}), "file": name}
    row["caption"] = captions[0] if captions else None
    row.pop("captions", None)
    if len(captions) > 1:
        row["captions"] = captions
    return row


def find_captions(fields: dict[str, Any]) -> list[str]:
    """The captions that fields hold, under the first of `CAPTION_KEYS` that has any."""
    for key in CAPTION_KEYS:
        value = fields.get(key)
        texts = value if isinstance(value, list) else [value]
        if found := [text for text in texts if isinstance(text, str) and text.strip()]:
            return found
    return []

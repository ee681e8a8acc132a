"""Tables of images, a row each: JSONL, JSON, CSV, TSV or Parquet; and plain lists of paths.

A row names its image (`file_name`, as Hugging Face's imagefolder has it, or another of `PATH_KEYS`)
and has its captions and other fields. Kohya's JSON is an object with a key for each image: its
file, or the same without its suffix.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from dcht.data.captions import CAPTION, decode_text, split_lines
from dcht.data.labels import LABEL, parse_label
from dcht.errors import UsageError
from dcht.files import parse_json

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.json", "metadata.parquet")
TABLES = (".jsonl", ".csv", ".tsv", ".json", ".parquet")
PATH_KEYS = ("file_name", "path", "file", "image", "filename", "image_path")
WHOLE = re.compile(r"^\s*(0|[1-9][0-9]{0,8})\.0\s*$")
"""A whole number as pandas writes it where another one is missing."""

# A field is as long as it is: the module's own limit ends a table at 131,072 characters.
csv.field_size_limit(1 << 30)


class Named(NamedTuple):
    """A line of a table: an image with its fields, or what is wrong with the line."""

    path: str
    fields: dict[str, Any]
    problem: str | None = None


def read_table(name: str, content: bytes) -> Iterator[Named]:
    """The images that a table names: one of `TABLES` by its suffix, or else one path a line.

    A line that cannot be understood comes out with its `problem`, and with its place as its path.

    Raises:
        UsageError: this is not a text in UTF-8, not JSON, or damaged; or pyarrow is not installed.
    """
    suffix = posixpath.splitext(name)[1].lower()
    if suffix == ".parquet":
        yield from _read_parquet(name, content)
        return
    text = decode_text(name, content)
    if suffix == ".jsonl":
        for number, line in enumerate(io.StringIO(text), start=1):
            if line.strip():
                yield _parse(f"{name} line {number}", line)
    elif suffix == ".json":
        yield from _read_json(name, text)
    elif suffix in (".csv", ".tsv"):
        yield from _read_csv(name, text, "\t" if suffix == ".tsv" else ",")
    else:
        yield from (Named(line, {}) for line in split_lines(text) if line.strip())


def first_path(name: str, content: bytes) -> str | None:
    """The image that the first row of a table names; None if this is no table of images."""
    try:
        first = next(read_table(name, content), None)
    except UsageError:
        return None
    return None if first is None or first.problem is not None else first.path


def _parse(place: str, line: str) -> Named:
    try:
        return _pick_path(place, parse_json(line, place))
    except UsageError as error:
        return Named(place, {}, str(error))


def _read_json(name: str, text: str) -> Iterator[Named]:
    found = parse_json(text, name)
    if isinstance(found, list):
        for number, fields in enumerate(found, start=1):
            yield _pick_path(f"{name} row {number}", fields)
    elif isinstance(found, dict):
        for path, fields in found.items():
            if isinstance(fields, dict):
                yield Named(path, fields)
            elif isinstance(fields, str):
                yield Named(path, {CAPTION: fields})
            else:
                yield Named(f"{name} key {path!r}", {}, "neither an object nor a caption")
    else:
        raise UsageError(f"{name} is no table: expected a list of objects, or an object of them")


def _read_parquet(name: str, content: bytes) -> Iterator[Named]:
    from dcht.data.columnar import read_rows

    try:
        for number, fields in enumerate(read_rows(content), start=1):
            yield _pick_path(f"{name} row {number}", fields)
    except UsageError:
        raise
    except Exception as error:
        # Whatever pyarrow ran into in a hostile file: it promises no particular exception.
        raise UsageError(f"{name} is damaged: {str(error).strip()}") from None


def _read_csv(name: str, text: str, delimiter: str) -> Iterator[Named]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
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
                fields[LABEL] = parse_label(re.sub(WHOLE, r"\1", fields[LABEL]))
            yield _pick_path(place, fields)


def _pick_path(place: str, fields: object) -> Named:
    if not isinstance(fields, dict):
        return Named(place, {}, "not an object with a file_name")
    for key in PATH_KEYS:
        if isinstance(path := fields.get(key), str) and path:
            return Named(path, {other: fields[other] for other in fields if other != key})
    return Named(place, {}, f"names no image: one of {', '.join(PATH_KEYS)} should")

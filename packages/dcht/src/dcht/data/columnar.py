"""Parquet and Arrow files as the library `datasets` writes them: a row an image, with its fields.

Images are a column of bytes, or of `{bytes, path}`; all other columns are fields, where they are
what JSON can say. Numbers of classes whose names the file knows become these names. Nothing is
unpacked: an image of an Arrow file is a range of its bytes, one of a Parquet file a cell.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dcht.data.cells import NO_BYTES, Cell, read_batches, reading_parquet, require_pyarrow
from dcht.data.entries import Entry, Part, file_part
from dcht.data.labels import parse_label
from dcht.files import open_regular
from dcht.images import ImageError

PARQUET, ARROW = ".parquet", ".arrow"
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
"""Which column holds the images, if several hold bytes."""
HUGGING_FACE = b"huggingface"
"""Where `datasets` writes its own types in a schema."""


def has_images(path: str) -> bool:
    """Whether a file is Parquet with images in it; without them it is a table, or nothing.

    Raises:
        ImageError: it is damaged.
        UsageError: it is Parquet, and pyarrow is not installed.
    """
    try:
        with open_regular(path) as file:
            if file.read(4) != b"PAR1":
                return False
    except OSError:
        return False
    with reading_parquet(path) as parquet:
        return bool(_bytes_columns(parquet.schema_arrow))


def list_parquet(path: str, name: str, *, changed: tuple[int, int] | None = None) -> list[Entry]:
    """The images of a Parquet file with their fields; one that is damaged is an entry that says so.

    Args:
        path: the file, on disk or on the Hub.
        name: what the names of its entries begin with.
        changed: of a file on the Hub: its version.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        whole = Part(path, 0, changed=changed) if changed else file_part(path)
        with reading_parquet(path) as parquet:
            schema = parquet.schema_arrow
            column, classes = _image_column(schema), _classes(schema.metadata)
            others = _field_columns(schema)
            count = parquet.metadata.num_rows
            # No row is less than a bit in a file that is not made to fill the memory.
            if not changed and not 0 <= count <= 8 * whole.size:
                raise ImageError(f"damaged: {count:,} rows in {whole.size:,} bytes")
            entries: list[Entry] = []
            for group in range(parquet.num_row_groups):
                metadata = parquet.metadata.row_group(group)
                mean = _mean_size(metadata, column)
                for row, fields in enumerate(_rows(parquet, group, others, metadata.num_rows)):
                    part = whole._replace(size=mean, cell=Cell(column, group, row))
                    entries.append(_entry(name, len(entries), count, part, fields, classes))
    except ImageError as error:
        return [Entry(name, problem=str(error))]
    except Exception as error:
        # Whatever pyarrow ran into in a hostile file: it promises no particular exception.
        if type(error).__module__.startswith("dcht"):
            raise
        return [Entry(name, problem=f"damaged: {str(error).strip() or type(error).__name__}")]
    return entries


def read_rows(content: bytes) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file that holds no images, each as the fields that JSON can say.

    Raises:
        UsageError: pyarrow is not installed.
        Exception: whatever pyarrow runs into in a damaged file.
    """
    require_pyarrow("a .parquet")
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(io.BytesIO(content))
    schema = parquet.schema_arrow
    others, classes = _field_columns(schema), _classes(schema.metadata)
    for group in range(parquet.num_row_groups):
        for batch in read_batches(parquet, group, others):
            yield from (_fields(row, classes) for row in batch.to_pylist())


def list_arrow(path: str, name: str) -> list[Entry]:
    """The images of an Arrow file, such as `save_to_disk` of `datasets` writes, with their fields.

    Raises:
        UsageError: pyarrow is not installed.
    """
    require_pyarrow(os.path.basename(path))
    import pyarrow as pa

    entries: list[Entry] = []
    try:
        whole = file_part(path)
        open_regular(path).close()  # a pipe would hold the reader for ever
        with pa.memory_map(path) as file:
            content = file.read_buffer()
            batches = list(_arrow_batches(content))
            count = sum(batch.num_rows for batch in batches)
            for batch in batches:
                batch.validate(full=True)  # offsets that lead out of the file
                column, classes = _image_column(batch.schema), _classes(batch.schema.metadata)
                rows = batch.select(_field_columns(batch.schema)).to_pylist()
                places = _places(_column(batch, column), content)
                for place, fields in zip(places, rows or [{}] * batch.num_rows, strict=True):
                    part = place and whole._replace(offset=place[0], size=place[1])
                    entries.append(_entry(name, len(entries), count, part, fields, classes))
    except ImageError as error:
        return [*entries, Entry(name, problem=str(error))]
    except Exception as error:
        # Whatever pyarrow ran into in a hostile file: it promises no particular exception.
        return [
            *entries,
            Entry(name, problem=f"damaged: {str(error).strip() or type(error).__name__}"),
        ]
    return entries


def _arrow_batches(content: Any) -> Iterable[Any]:
    import pyarrow.ipc

    if content.size >= 6 and content[:6].to_pybytes() == b"ARROW1":
        reader = pyarrow.ipc.open_file(content)
        return (reader.get_batch(number) for number in range(reader.num_record_batches))
    return pyarrow.ipc.open_stream(content)


def _column(batch: Any, path: str) -> Any:
    name, *fields = path.rsplit(".", 1) if path.endswith(".bytes") else [path]
    values = batch.column(batch.schema.get_field_index(name))
    return values.field(fields[0]) if fields else values


def _places(values: Any, content: Any) -> Iterator[tuple[int, int] | None]:
    """Where in an Arrow file the bytes of each value are, and how many; None for null."""
    import pyarrow.types as types

    _, limits, data = values.buffers()
    kind = np.int64 if types.is_large_binary(values.type) else np.int32
    ends = np.frombuffer(limits, kind)[values.offset : values.offset + len(values) + 1].tolist()
    first = data.address - content.address if data is not None else 0
    if data is not None and not 0 <= first <= content.size - data.size:
        raise ImageError("its columns are compressed; write it without compression, or as Parquet")
    for number, valid in enumerate(values.is_valid().to_pylist()):
        start, end = ends[number : number + 2]
        yield (first + start, end - start) if valid else None


def _entry(
    name: str,
    number: int,
    count: int,
    part: Part | None,
    fields: dict[str, Any],
    classes: Mapping[str, list[str]],
) -> Entry:
    # Names sort as rows do.
    label = f"{name}/{number:0{max(6, len(str(count - 1)))}d}"
    if part is None:
        return Entry(label, problem=NO_BYTES)
    return Entry(label, part, metadata=_fields(fields, classes) or None)


def _rows(parquet: Any, group: int, columns: list[str], count: int) -> Iterator[dict[str, Any]]:
    if not columns:
        yield from ({} for _ in range(count))
        return
    for batch in read_batches(parquet, group, columns):
        yield from batch.to_pylist()


def _mean_size(metadata: Any, column: str) -> int:
    """About how many bytes an image has; how many exactly, only reading it would say."""
    chunks = (metadata.column(number) for number in range(metadata.num_columns))
    size = next((c.total_uncompressed_size for c in chunks if c.path_in_schema == column), 0)
    return int(size) // max(1, metadata.num_rows)


def _bytes_columns(schema: Any) -> list[str]:
    """The columns that may hold images, each by the path of its bytes."""
    return [path for field in schema if (path := _bytes_path(field.name, field.type))]


def _bytes_path(name: str, kind: Any) -> str:
    import pyarrow.types as types

    if types.is_binary(kind) or types.is_large_binary(kind):
        return name
    if types.is_struct(kind) and (index := kind.get_field_index("bytes")) >= 0:
        inner = kind.field(index).type
        return f"{name}.bytes" if types.is_binary(inner) or types.is_large_binary(inner) else ""
    return ""


def _image_column(schema: Any) -> str:
    """The path of the column of images.

    Raises:
        ImageError: there is none, or one of several.
    """
    found = _bytes_columns(schema)
    known = {path.removesuffix(".bytes"): path for path in found}
    if named := [known[name] for name in IMAGE_COLUMNS if name in known]:
        return named[0]
    if len(found) == 1:
        return found[0]
    columns = ", ".join(known) or ", ".join(schema.names)
    raise ImageError(
        f"{'several columns hold' if found else 'no column holds'} bytes: {columns}; "
        "call the one with images `image`"
    )


def _field_columns(schema: Any) -> list[str]:
    """The columns that can be fields: no bytes anywhere in them."""
    return [field.name for field in schema if not _holds_bytes(field.type)]


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    return (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
        or any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
    )


def _classes(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names of the classes of columns, as `datasets` keeps them in a schema."""
    try:
        features = json.loads((metadata or {})[HUGGING_FACE])["info"]["features"]
        return {
            name: [str(label) for label in feature["names"]]
            for name, feature in features.items()
            if feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _fields(row: Mapping[str, Any], classes: Mapping[str, list[str]]) -> dict[str, Any]:
    """A row as fields: nulls left out, classes by name."""
    fields = {key: _plain(value) for key, value in row.items()}
    for key, names in classes.items():
        number = fields.get(key)
        if isinstance(number, int):
            # -1 stands for no class in sets whose classes are secret.
            fields[key] = parse_label(names[number]) if 0 <= number < len(names) else None
    return {key: value for key, value in fields.items() if value is not None}


def _plain(value: Any) -> Any:
    """A value as JSON can say it: what has no number or word of its own is a text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return str(value)

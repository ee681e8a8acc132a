"""Bytes inside a Parquet file: one value of a column, read without holding its row group whole.

Pages are compressed together, so a value is had by reading forward to it. What was read last is
held: consecutive values, and values of small row groups in any order, are read once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from threading import Lock
from typing import Any, NamedTuple

from dcht.errors import UsageError
from dcht.files import open_regular
from dcht.images import ImageError

HELD = 1 << 28
"""Bytes of a column that are held, and about how many are read at once."""
OPEN_GROUPS = 4
"""Row groups that are held."""
NO_BYTES = "its row holds no bytes; embed them, as push_to_hub and save_to_disk of datasets do"
REMOTE = "hf://"
"""What the name of a file on the Hub begins with."""


class Cell(NamedTuple):
    """A place in a Parquet file."""

    column: str
    """Its path: `image.bytes`."""
    group: int
    """Row group."""
    row: int
    """In that."""


def require_pyarrow(name: str) -> None:
    """Say which extra is missing.

    Raises:
        UsageError: pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise UsageError(f"{name} needs an extra: pip install 'dcht[datasets]'")


def open_parquet(file: str) -> Any:
    """A `pyarrow.parquet.ParquetFile` on disk, or on the Hub, of which only parts are fetched.

    Raises:
        ImageError: it cannot be opened, or is damaged.
        UsageError: pyarrow is not installed.
    """
    require_pyarrow(os.path.basename(file))
    import pyarrow.parquet

    opened = None
    try:
        opened = _open(file)
        return pyarrow.parquet.ParquetFile(opened, pre_buffer=file.startswith(REMOTE))
    except Exception as error:  # of pyarrow, of the Hub, or of the system
        if opened is not None:
            opened.close()
        raise ImageError(f"cannot be read: {_line(error)}") from None


@contextmanager
def reading_parquet(file: str) -> Iterator[Any]:
    """`open_parquet`, closed at the end: pyarrow leaves what it was given to the collector."""
    parquet = open_parquet(file)
    try:
        yield parquet
    finally:
        parquet.close(force=True)


def _open(file: str) -> Any:
    if not file.startswith(REMOTE):
        import pyarrow

        open_regular(file).close()  # a pipe would hold the reader for ever
        return pyarrow.OSFile(file)
    from huggingface_hub import HfFileSystem

    return HfFileSystem().open(file, "rb")


def read_batches(parquet: Any, group: int, columns: list[str]) -> Any:
    """Some columns of a row group as record batches of bounded size, one after another."""
    metadata = parquet.metadata.row_group(group)
    chunks = [metadata.column(number) for number in range(metadata.num_columns)]
    prefixes = tuple(f"{column}." for column in columns)
    sizes = [
        chunk.total_uncompressed_size
        for chunk in chunks
        if chunk.path_in_schema in columns or chunk.path_in_schema.startswith(prefixes)
    ]
    # No value is longer than its column, which a dictionary may repeat in every row.
    rows = min(max(1, HELD // 4 // max([1, *sizes])), 1024)
    return parquet.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)


def read_cell(file: str, changed: tuple[int, int], cell: Cell, *, cap: int) -> bytes:
    """The bytes of a value.

    Args:
        file: the Parquet file.
        changed: when it was last written: another file of the same name is another.
        cell: where.
        cap: on its bytes.

    Raises:
        ImageError: they are not there, too many, or the file is damaged.
    """
    # A forked worker shares the place in an open file with its parent.
    group = _open_group(file, changed, cell.column, cell.group, os.getpid())
    value = group.value(cell.row)
    if value is None:
        raise ImageError(NO_BYTES)
    if value.size > cap:
        raise ImageError(f"{value.size:,} bytes; the cap is {cap:,}")
    return value.to_pybytes()


class _Group:
    """A column of a row group, read forward; what was read last is held."""

    def __init__(self, file: str, column: str, group: int) -> None:
        self._file, self._column, self._group = file, column, group
        self._lock = Lock()
        self._start_over()

    def _start_over(self) -> None:
        self._batches = read_batches(open_parquet(self._file), self._group, [self._column])
        self._held: deque[tuple[int, Any]] = deque()
        self._bytes = self._end = 0

    def value(self, row: int) -> Any:
        """The buffer of a value, None for null."""
        with self._lock:
            try:
                if self._held and row < self._held[0][0]:
                    self._start_over()
                while row >= self._end:
                    self._read_on()
                start, values = next(held for held in reversed(self._held) if held[0] <= row)
                return values[row - start].as_buffer()
            except ImageError:
                raise
            except Exception as error:  # of pyarrow, of the Hub, or of the system
                raise ImageError(f"damaged: {_line(error)}") from None

    def _read_on(self) -> None:
        batch = next(self._batches, None)
        if batch is None:
            raise ImageError("damaged: its row group ends before it does")
        values = batch.column(0)
        while "." in self._column and values.type.num_fields:  # a struct of the one field
            values = values.field(0)
        self._held.append((self._end, values))
        self._end += len(values)
        self._bytes += values.nbytes
        while self._bytes > HELD and len(self._held) > 1:
            self._bytes -= self._held.popleft()[1].nbytes


_open_group = lru_cache(maxsize=OPEN_GROUPS)(
    lambda file, changed, column, group, process: _Group(file, column, group)
)


def _line(error: Exception) -> str:
    """What an exception says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""Rows and features of a long evaluation on disk, in step with each other, so that it can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcht.errors import UsageError
from dcht.files import jsonl, open_regular, read_json, read_rows, write_atomic

STATE = ".state.json"
ROWS, ERRORS = "images.jsonl", "errors.jsonl"

Features = NDArray[np.float32]


class State(NamedTuple):
    """How far a journal has come."""

    done: int
    """Images; those that could not be read among them."""
    files: dict[str, tuple[int, str]]
    """By name, how many bytes of it count, and the SHA-256 of those."""


def read_state(folder: Path) -> State:
    """The state of a journal; nothing is done where there is none.

    Raises:
        UsageError: it is damaged; the message says what to do.
    """
    path = folder / STATE
    if not path.exists():
        return State(0, {})
    try:
        found = read_json(path)
        files = {str(name): (int(n), str(sha256)) for name, (n, sha256) in found["files"].items()}
        state = State(int(found["done"]), files)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise _damaged(folder, STATE) from None
    if min(state.done, *(length for length, _ in files.values()), 0) < 0:
        raise _damaged(folder, STATE)
    return state


def _damaged(folder: Path, name: str) -> UsageError:
    return UsageError(
        f"{folder / name} is damaged; remove {folder / STATE}, and the same command begins anew"
    )


class Journal:
    """`images.jsonl`, `errors.jsonl` and files of features, which grow, and a state that counts.

    The state is replaced whole and says up to which byte the others count. What was written after
    it, by a process that was killed, is cut off: the work after it is done again.
    """

    def __init__(self, out: Path, features: Mapping[str, int] | None = None) -> None:
        """Open `out`, where it was left; `features` are the dimensions of each kind, by name.

        Raises:
            UsageError: what counts is no longer what was written.
        """
        self.out, self.dims = out, dict(features or {})
        self.done, counted = read_state(out)
        self._hashes, lengths = {}, {}
        for name in (ROWS, ERRORS, *map(features_file, self.dims)):
            lengths[name], sha256 = counted.get(name, (0, None))
            self._hashes[name] = _digest(out / name, lengths[name])
            if sha256 is not None and self._hashes[name].hexdigest() != sha256:
                raise _damaged(out, name)
        for name, length in lengths.items():
            if (out / name).exists():
                os.truncate(out / name, length)

    def add(
        self,
        rows: Sequence[dict[str, Any]],
        errors: Sequence[dict[str, Any]] = (),
        *,
        files: int,
        features: Mapping[str, Features] | None = None,
    ) -> None:
        """Append what the next `files` files gave; it counts once `save` was called.

        `features` are (rows, dim) of each kind.

        Raises:
            UsageError: a value is not finite: nothing that is computed of it means anything.
        """
        for row in rows:
            _require_finite(row, row)
        for name, values in (features or {}).items():
            if len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
                image = rows[bad[0]]["file"] if rows else f"image {self.done + bad[0]}"
                raise UsageError(f"{image}: its features ({name}) are not finite")
        for name, entries in ((ROWS, rows), (ERRORS, errors)):
            if entries:
                self._append(name, jsonl(entries))
        for name, values in (features or {}).items():
            self._append(features_file(name), np.ascontiguousarray(values, dtype="<f4").tobytes())
        self.done += files

    def _append(self, name: str, content: bytes) -> None:
        with (self.out / name).open("ab") as file:
            file.write(content)
        self._hashes[name].update(content)

    def save(self) -> None:
        """Make what was added count."""
        files = {}
        for name, digest in self._hashes.items():
            if (self.out / name).exists():
                with (self.out / name).open("ab") as file:
                    os.fsync(file.fileno())  # before the state that counts on it
                    files[name] = (file.tell(), digest.hexdigest())
        state = {"done": self.done, "files": files}
        write_atomic(self.out / STATE, json.dumps(state).encode() + b"\n")

    def read(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file as they are now."""
        path = self.out / name
        return read_rows(path) if path.exists() else []

    def features(self, name: str) -> Features:
        """The features of a kind as they are now, (rows, dim)."""
        path = self.out / features_file(name)
        if not path.exists():
            return np.empty((0, self.dims[name]), dtype=np.float32)
        return np.fromfile(path, dtype="<f4").reshape(-1, self.dims[name])


def forget(out: Path) -> None:
    """Remove what only an unfinished run needs: the state and the features."""
    for path in (out / STATE, *out.glob(features_file("*"))):
        path.unlink(missing_ok=True)


def _digest(path: Path, length: int) -> hashlib._Hash:
    """The running hash of the first bytes of a file; of nothing where it has fewer."""
    digest = hashlib.sha256()
    if path.exists() and path.stat().st_size >= length:
        with open_regular(path) as file:
            while block := file.read(min(length, 1 << 20)):
                digest.update(block)
                length -= len(block)
    return digest


def _require_finite(value: Any, row: Mapping[str, Any]) -> None:
    if isinstance(value, Mapping):
        for inner in value.values():
            _require_finite(inner, row)
    elif isinstance(value, float) and not np.isfinite(value):
        raise UsageError(f"{row.get('file')}: a value of it is {value}, which is no number")


def features_file(name: str) -> str:
    """The file of a kind of features: float32, row after row."""
    return f".features-{name}.f32"

"""Rows and features of a long evaluation on disk, in step with each other, so that it can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcht.files import write_atomic

STATE = ".state.json"
ROWS, ERRORS = "images.jsonl", "errors.jsonl"

Features = NDArray[np.float32]


class Journal:
    """`images.jsonl`, `errors.jsonl` and files of features, which grow, and a state that counts.

    The state is replaced whole and says up to which byte the others count. What was written after
    it, by a process that was killed, is cut off: the work after it is done again.
    """

    def __init__(self, out: Path, features: Mapping[str, int] | None = None) -> None:
        """Open `out`, where it was left; `features` are the dimensions of each kind, by name."""
        self.out, self.done = out, 0
        self.dims = dict(features or {})
        self._files = [ROWS, ERRORS, *map(features_file, self.dims)]
        lengths: dict[str, int] = {}
        if (out / STATE).exists():
            state = json.loads((out / STATE).read_text())
            self.done, lengths = state["done"], state["bytes"]
        for name in self._files:
            if (out / name).exists():
                os.truncate(out / name, lengths.get(name, 0))

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
        """
        for name, entries in ((ROWS, rows), (ERRORS, errors)):
            if entries:
                with (self.out / name).open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in entries)
        for name, values in (features or {}).items():
            with (self.out / features_file(name)).open("ab") as file:
                file.write(np.ascontiguousarray(values, dtype="<f4").tobytes())
        self.done += files

    def save(self) -> None:
        """Make what was added count."""
        lengths = {}
        for name in self._files:
            if (self.out / name).exists():
                with (self.out / name).open("ab") as file:
                    os.fsync(file.fileno())  # before the state that counts on it
                    lengths[name] = file.tell()
        state = {"done": self.done, "bytes": lengths}
        write_atomic(self.out / STATE, json.dumps(state).encode() + b"\n")

    def read(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file as they are now."""
        if not (self.out / name).exists():
            return []
        with (self.out / name).open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def features(self, name: str) -> Features:
        """The features of a kind as they are now, (rows, dim)."""
        path = self.out / features_file(name)
        if not path.exists():
            return np.empty((0, self.dims[name]), dtype=np.float32)
        return np.fromfile(path, dtype="<f4").reshape(-1, self.dims[name])

    def forget(self) -> None:
        """Remove what only an unfinished run needs: the state and the features."""
        for name in (STATE, *map(features_file, self.dims)):
            (self.out / name).unlink(missing_ok=True)


def features_file(name: str) -> str:
    """The file of a kind of features: float32, row after row."""
    return f".features-{name}.f32"

"""Rows and sums of a long evaluation on disk, in step with each other, so that it can go on."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcar_eval.fid import FeatureSums
from dcht.checkpoint import write_atomic

STATE = ".state.npz"
ROWS, ERRORS = "images.jsonl", "errors.jsonl"


class Journal:
    """`images.jsonl` and `errors.jsonl`, which grow, and a state file that is replaced whole.

    The state says up to which byte the two count and holds the sums over the same images. What was
    written after it, by a process that was killed, is cut off: the work after it is done again.
    """

    def __init__(self, out: Path, sums: dict[str, FeatureSums]) -> None:
        """Open `out`, where it was left; `sums` are those of no images, by name."""
        self.out, self.sums, self.done = out, sums, 0
        lengths = {ROWS: 0, ERRORS: 0}
        if (out / STATE).exists():
            with np.load(out / STATE) as state:
                self.done = int(state["done"])
                lengths = {name: int(state[name]) for name in lengths}
                for name, values in sums.items():
                    values.count = int(state[f"{name}.count"])
                    values.total = state[f"{name}.total"]
                    values.outer = state[f"{name}.outer"]
        for name, length in lengths.items():
            if (out / name).exists():
                os.truncate(out / name, length)

    def add(
        self, rows: Sequence[dict[str, Any]], errors: Sequence[dict[str, Any]], *, files: int
    ) -> None:
        """Append the rows of the next `files` files; they count once `save` was called."""
        for name, entries in ((ROWS, rows), (ERRORS, errors)):
            if entries:
                with (self.out / name).open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in entries)
        self.done += files

    def save(self) -> None:
        """Make what was added count."""
        state: dict[str, Any] = {"done": self.done, ROWS: 0, ERRORS: 0}
        for name in (ROWS, ERRORS):
            if (self.out / name).exists():
                with (self.out / name).open("ab") as file:
                    os.fsync(file.fileno())  # before the state that counts on it
                    state[name] = file.tell()
        for name, values in self.sums.items():
            state |= {f"{name}.{key}": value for key, value in vars(values).items()}
        buffer = io.BytesIO()
        np.savez(buffer, **state)
        write_atomic(self.out / STATE, buffer.getvalue())

    def read(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file as they are now."""
        if not (self.out / name).exists():
            return []
        with (self.out / name).open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

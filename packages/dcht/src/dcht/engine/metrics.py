"""A run's numbers: means over steps, and `metrics.jsonl`, which has a row of them now and then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dcht.errors import UsageError
from dcht.files import parse_row, read_rows, write_atomic

METRICS = "metrics.jsonl"


class Means:
    """Means of named values over the steps since the last row, each by how often it was there.

    Values are numbers, or tensors of one number, for which nothing waits before `take`.
    """

    def __init__(self) -> None:
        self.num_steps = 0
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, float | Tensor]) -> None:
        """Take in the values of a step."""
        self.num_steps += 1
        for name, value in values.items():
            if isinstance(value, Tensor):
                value = value.detach().float()
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means; from here on, those of the next row."""
        row = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.num_steps, self.sums, self.counts = 0, {}, {}
        return row

    def state(self) -> dict[str, Any]:
        """What a run that continues needs to log the row that it would have logged."""
        return {"num_steps": self.num_steps, "sums": self.sums, "counts": self.counts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.num_steps = int(state["num_steps"])
        self.sums = dict(state["sums"])
        self.counts = {name: int(state["counts"][name]) for name in self.sums}


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """The rows of a `metrics.jsonl`, in the order of their steps.

    Raises:
        UsageError: a row is damaged.
    """
    return sorted(read_rows(path), key=lambda row: step_of(row, path))


def step_of(row: Mapping[str, Any], where: object) -> int:
    """The step of a row.

    Raises:
        UsageError: it has none; the message begins with `where`.
    """
    step = row.get("step")
    if type(step) is not int:
        raise UsageError(f"{where} has a row whose step is {step!r}; expected a whole number")
    return step


def drop_rows(path: Path, first_step: int) -> None:
    """Drop the rows from `first_step` on, and a last line that a killed run left without its end.

    Raises:
        UsageError: a row is damaged.
    """
    if not path.exists():
        return
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    kept = [
        line
        for number, line in enumerate(lines, start=1)
        if line.endswith(b"\n")
        and step_of(parse_row(line, f"{path} line {number}"), path) < first_step
    ]
    if len(kept) < len(lines):
        write_atomic(path, b"".join(kept))

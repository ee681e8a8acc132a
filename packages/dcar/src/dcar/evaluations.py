"""Measurements of a generator while it trains, which other packages provide.

A package registers a function under a name in the entry-point group `dcar.evaluations`;
`evaluations=[NAME]` has it called every `evaluate_every` steps, with the averaged weights, on rank
0 while the others wait. dcar itself knows none: dcar-eval brings `scenes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from dcar.pipeline import TextToImage
from dcht.errors import UsageError

GROUP = "dcar.evaluations"


class Evaluation(Protocol):
    """Measures what a generator draws."""

    def __call__(self, pipe: TextToImage, *, seed: int, out: Path) -> Mapping[str, float]:
        """Draw what is needed and return numbers for the log.

        Args:
            pipe: the generator with its averaged weights, on the run's device. It is not to be
                changed, and shares its weights with the run.
            seed: the run's. The same noise every time makes the numbers of a run comparable.
            out: a folder of this step's own, not there yet, for whatever else is worth keeping.
        """
        ...


def load_evaluations(names: Sequence[str]) -> dict[str, Evaluation]:
    """The evaluations of these names.

    Raises:
        UsageError: a name that no installed package provides.
    """
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if odd := [name for name in names if name not in known]:
        there = ", ".join(sorted(known)) or "none (dcar-eval brings some)"
        raise UsageError(f"evaluations: {odd[0]!r} is not installed; there is {there}")
    return {name: known[name].load() for name in names}

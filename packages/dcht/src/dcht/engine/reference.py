"""Whether a run learned as it should: its curves beside the committed ones of its experiment.

A reference is `references/EXPERIMENT.json` in a package: the settings of a run, what it read, and
the first rows of its `metrics.jsonl`. `benchmarks/reference_curves.py` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from dcht.engine.metrics import METRICS, read_metrics
from dcht.engine.run_folder import SETTINGS, differences
from dcht.errors import UsageError
from dcht.files import read_json

FREE = (
    "out", "root", "tokenizer_ckpt", "init_from", "device", "workers", "trackers", "residual_std",
    "bf16", "compile",
)  # fmt: skip
"""Settings that do not tell what a run should learn."""
NOT_CURVES = (
    "step", "time", "stage", "lr", "images_per_second", "sequences_per_second", "peak_memory_gib",
)  # fmt: skip
"""Columns of a row that say when and how fast, not what was learned."""
TOLERANCE = 0.1
"""How far a value may be from the reference's, as a share of what that curve spans."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A run that went as it should."""

    experiment: str
    data: str
    """What it read, in words."""
    settings: dict[str, Any]
    rows: list[dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """Where a curve is farthest from its reference."""

    name: str
    step: int
    value: float
    expected: float
    share: float
    """Their distance as a share of what the reference's curve spans."""

    @property
    def agrees(self) -> bool:
        """Whether it is within `TOLERANCE`."""
        return self.share <= TOLERANCE

    def __str__(self) -> str:
        """In a line."""
        verdict = "agrees" if self.agrees else "differs"
        return (
            f"{self.name:<20} {verdict}: at worst {self.value:.4g} for {self.expected:.4g}, "
            f"{self.share:.0%} of the curve's span, at step {self.step}"
        )


def load_references(package: str) -> list[Reference]:
    """The references that a package has."""
    folder = resources.files(package) / "references"
    if not folder.is_dir():
        return []
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".json"))
    return [Reference(**json.loads((folder / name).read_text())) for name in files]


def find_reference(run: str | Path, references: Sequence[Reference]) -> Reference:
    """The reference of a run's experiment: that with its settings.

    Raises:
        UsageError: the folder holds no run, or no reference has its settings; the message names
            those that differ from the nearest.
    """
    settings = _settings(Path(run))
    apart = [(differences(one.settings, settings, FREE), one) for one in references]
    if not apart:
        raise UsageError("there is no reference curve to compare with")
    different, nearest = min(apart, key=lambda pair: (len(pair[0]), pair[1].experiment))
    if different:
        raise UsageError(
            f"no reference has the settings of {run}; those of +experiment={nearest.experiment} "
            f"are nearest, and differ in {', '.join(sorted(different)[:8])}"
        )
    return nearest


def _settings(run: Path) -> Mapping[str, Any]:
    try:
        return read_json(run / SETTINGS)
    except FileNotFoundError:
        raise UsageError(f"{run} is not a run of dcht-train or dcar-train: no {SETTINGS}") from None


def compare_curves(run: str | Path, reference: Reference) -> list[Deviation]:
    """For each curve that a run shares with its reference, the step where they are farthest apart.

    Raises:
        UsageError: they share no step of any curve, or a row is damaged.
    """
    rows = read_metrics(Path(run) / METRICS)
    found = []
    for name in sorted({name for row in reference.rows for name in row} - {*NOT_CURVES}):
        expected, now = _curve(reference.rows, name), _curve(rows, name)
        steps = expected.keys() & now.keys()
        if not steps:
            continue
        span = max(expected.values()) - min(expected.values()) or max(map(abs, expected.values()))
        shares = {step: abs(now[step] - expected[step]) / max(span, 1e-12) for step in steps}
        worst = max(sorted(shares), key=lambda step: shares[step])
        found.append(
            Deviation(
                name=name,
                step=worst,
                value=now[worst],
                expected=expected[worst],
                share=shares[worst],
            )
        )
    if not found:
        raise UsageError(f"{run} and the reference have no logged step in common")
    return found


def _curve(rows: Sequence[Mapping[str, float]], name: str) -> dict[int, float]:
    return {int(row["step"]): float(row[name]) for row in rows if name in row}

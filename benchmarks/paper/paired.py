"""Sweeps whose points draw the same prompts with the same noise: compared image by image.

A point is a combination of sampling settings. Its images are held against the true scenes
(`dcar-eval sweep --sprites`), so that a difference of two points is a mean over pairs of images,
and its error that of the mean.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from result_files import Rows

SHARED = ("weights", "num_per_task", "size")
"""Of a sweep's settings."""
MEASURES = {"psnr": "PSNR", "psnr_objects": "PSNR of the objects"}


class Paired(NamedTuple):
    """How much more one point has than another, and one standard error."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ± {self.error:.2f}"


def gather(work: Path) -> dict[str, Any]:
    """The points of `WORK/*-SEED/results.json`: a row a point and seed, with its images' values."""
    rows: Rows = []
    shared: dict[str, Any] = {}
    for path in sorted(work.glob("*-[0-9]*/results.json")):
        results = json.loads(path.read_text())
        if "points" not in results:  # a run of one point, which is not compared
            continue
        shared = {key: results["settings"][key] for key in SHARED}
        for number, point in enumerate(results["points"]):
            lines = (path.parent / "points" / f"{number:03d}" / "images.jsonl").read_text()
            images = [json.loads(line) for line in lines.splitlines()]
            rows.append(
                {
                    "seed": results["settings"]["seed"],
                    **point["settings"],
                    "gflop": round(sum(point["flops"].values()) / 1e9, 3),
                    "correct": [int(image["correct"]) for image in images],
                    "gated": [int(image["gated"]) for image in images],
                    **{
                        name: [round(image["fidelity"][name], 2) for image in images]
                        for name in MEASURES
                    },
                }
            )
    return {**shared, "rows": rows}


def values(rows: Rows, name: str, **settings: Any) -> list[float]:
    """Of all images of a point, seed after seed."""
    wanted = [row for row in rows if all(row[key] == value for key, value in settings.items())]
    return [value for row in sorted(wanted, key=lambda row: row["seed"]) for value in row[name]]


def mean(rows: Rows, name: str, **settings: Any) -> float:
    """Of all images of a point."""
    return statistics.mean(values(rows, name, **settings))


def difference(ours: list[float], theirs: list[float]) -> Paired:
    """Ours minus theirs, image by image."""
    changes = [a - b for a, b in zip(ours, theirs, strict=True)]
    return Paired(statistics.mean(changes), statistics.stdev(changes) / len(changes) ** 0.5)

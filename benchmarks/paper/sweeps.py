"""Fig. 6 and its kin: the scenes score over sampling settings, against steps and against FLOPs."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from result_files import Rows, markdown

SHARED = ("weights", "objects", "num_per_task", "size")
"""Of a sweep's settings."""


class Mean(NamedTuple):
    """Of the rows that share some settings."""

    overall: float
    error: float
    """One standard error. Only seeds have images of their own; at one seed prompts and noise are
    the same in every row."""
    gflop: float
    """Of an image."""


def gather(work: Path) -> dict[str, Any]:
    """The points of `WORK/*-SEED/results.json`, a row a point and seed, and what they share."""
    rows: Rows = []
    shared: dict[str, Any] = {}
    for path in sorted(work.glob("*-[0-9]*/results.json")):
        results = json.loads(path.read_text())
        shared = {key: results["settings"][key] for key in SHARED}
        for number, point in enumerate(results["points"]):
            rows.append(
                {
                    "folder": f"{path.parent.name}/points/{number:03d}",
                    "seed": results["settings"]["seed"],
                    **point["settings"],
                    "overall": round(point["overall"], 4),
                    "stderr": round(point["stderr"], 4),
                    "n": point["n"],
                    "gflop": {part: round(n / 1e9, 3) for part, n in point["flops"].items()},
                }
            )
    return {**shared, "rows": rows}


def means(rows: Rows, *keys: str) -> dict[tuple[Any, ...], Mean]:
    """Over everything but some settings (seeds, mostly), in the order of the rows."""
    groups: dict[tuple[Any, ...], Rows] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return {
        values: Mean(
            overall=statistics.mean(row["overall"] for row in group),
            error=_error(group),
            gflop=sum(group[0]["gflop"].values()),
        )
        for values, group in groups.items()
    }


def _error(rows: Rows) -> float:
    by_seed: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        by_seed[row["seed"]].append(row["stderr"])
    errors = [statistics.mean(values) for values in by_seed.values()]
    return math.hypot(*errors) / len(errors)


def table(result: dict[str, Any]) -> str:
    """Orders by steps."""
    found = means(result["rows"], "order", "num_steps")
    orders, steps = ([*dict.fromkeys(values)] for values in zip(*found, strict=True))
    lines = [
        [order, *(f"{found[order, n].overall:.2f} ± {found[order, n].error:.2f}" for n in steps)]
        for order in orders
    ]
    return markdown(["order, by steps", *map(str, steps)], lines)


def plot(result: dict[str, Any]) -> Figure:
    """By order, against steps and against FLOPs."""
    rows = result["rows"]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    panel_of_lines(left, rows, "order")
    panel_of_lines(right, rows, "order", against_gflop=True)
    left.set(ylabel="scenes, overall (held-out prompts)", ylim=(0, None))
    figure.suptitle("Quality against unmasking steps (Fig. 6); bars are one standard error")
    return figure


def panel_of_lines(panel: Axes, rows: Rows, line: str, *, against_gflop: bool = False) -> None:
    """A line for each value of one setting, along the steps or what they cost."""
    found = means(rows, line, "num_steps")
    for name in dict.fromkeys(row[line] for row in rows):
        points = {steps: mean for (value, steps), mean in found.items() if value == name}
        along = [mean.gflop for mean in points.values()] if against_gflop else list(points)
        scores = [mean.overall for mean in points.values()]
        errors = [mean.error for mean in points.values()]
        panel.errorbar(along, scores, errors, fmt="o-", markersize=4, capsize=2, label=name)
    if against_gflop:
        panel.set_xlabel("GFLOP an image")
    else:
        steps = sorted({count for _, count in found})
        panel.set_xscale("log", base=2)
        panel.set_xticks(steps, list(map(str, steps)))
        panel.minorticks_off()
        panel.set_xlabel("unmasking steps")
    panel.legend(title=line, frameon=False)

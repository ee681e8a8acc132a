"""GtR's order and FTS's schedules against fewer plain steps: quality against FLOPs.

Two measures. The scenes score says whether the right things are there, which the residual hardly
decides; so each image is also held against its twin of the same order, steps and noise whose
positions all take the long schedule.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import sweeps
from matplotlib.figure import Figure
from PIL import Image
from result_files import markdown

HEADS = {
    (20, None): "20 diffusion steps",
    (20, "frequency"): "FTS, 20 and 8",
    (20, "random"): "a random tenth, 20 and 8",
    (8, None): "8 diffusion steps",
}
LONG = (20, None)
ORDERS = {"confidence": "plain", "gtr": "GtR"}


def gather(work: Path) -> dict[str, Any]:
    """The points of all sweeps, each with the PSNR of its images against those of its twin."""
    gathered = sweeps.gather(work)
    rows = gathered["rows"]
    twins = {_twin(row): row for row in rows if _head(row) == LONG}
    for row in rows:
        if (twin := twins[_twin(row)]) is not row:
            row["psnr"] = round(_psnr(work / row["folder"], work / twin["folder"]), 2)
    return gathered


def _head(row: dict[str, Any]) -> tuple[int, str | None]:
    return row["num_diffusion_steps"], row["fts"]


def _twin(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["seed"], row["order"], row["num_steps"]


def _psnr(folder: Path, twin: Path) -> float:
    """Mean over images; identical ones, whose PSNR is infinite, left out."""
    values = []
    for path in sorted((folder / "images").glob("*.png")):
        ours, theirs = (
            np.asarray(Image.open(place), dtype=np.float64)
            for place in (path, twin / "images" / path.name)
        )
        if error := ((ours - theirs) ** 2).mean():
            values.append(10 * np.log10(255**2 / error))
    return statistics.mean(values)


def table(result: dict[str, Any]) -> str:
    """Orders and schedules by steps: score, PSNR against the twin, GFLOP."""
    rows = result["rows"]
    found = sweeps.means(rows, "order", "num_diffusion_steps", "fts", "num_steps")
    steps = [*dict.fromkeys(row["num_steps"] for row in rows)]
    lines = []
    for order, order_label in ORDERS.items():
        for head, head_label in HEADS.items():
            cells = []
            for count in steps:
                mean = found[order, *head, count]
                alike = [
                    row["psnr"]
                    for row in rows
                    if (row["order"], *_head(row), row["num_steps"]) == (order, *head, count)
                    and "psnr" in row
                ]
                distance = f"{statistics.mean(alike):.1f} dB, " if alike else ""
                score = f"{mean.overall:.2f} ± {mean.error:.2f}"
                cells.append(f"{score} ({distance}{mean.gflop:.1f} GFLOP)")
            lines.append([order_label, head_label, *cells])
    return markdown(["order", "head", *(f"{count} steps" for count in steps)], lines)


def plot(result: dict[str, Any]) -> Figure:
    """Score against FLOPs by order, all positions long; and likeness against FLOPs by schedule."""
    rows = result["rows"]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    sweeps.panel_of_lines(
        left, [row for row in rows if _head(row) == LONG], "order", against_gflop=True
    )
    left.set(title="scenes score, 20 diffusion steps", ylabel="overall", ylim=(0, None))
    for head, label in HEADS.items():
        if head == LONG:
            continue
        alike = [row for row in rows if _head(row) == head]
        cost = [row["gflop"]["head"] for row in alike]
        right.plot(cost, [row["psnr"] for row in alike], "o", markersize=4, label=label)
    right.set(
        title="likeness to the image with 20 steps everywhere",
        xlabel="GFLOP of the head an image",
        ylabel="PSNR in dB",
    )
    right.legend(frameon=False)
    figure.suptitle("GtR and FTS against fewer steps; bars are one standard error", fontsize=11)
    return figure

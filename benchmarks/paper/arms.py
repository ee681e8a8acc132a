"""What the residual's loss does to the discrete tokens: generators with equal sequences."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from paired import MEASURES, difference, values
from result_files import Rows, markdown

DRAWN = {"with": "scores", "without": "without/points/000"}
"""Folders of a run: its images with the residual, where it has one, and without."""
NAMES = {
    ("detached", "without"): "discrete only",
    ("detached", "with"): "a head that the transformer does not feel",
    ("one", "with"): "`loss.diffusion=1`",
    ("one", "without"): "`loss.diffusion=1`, its tokens alone",
    ("ten", "with"): "`loss.diffusion=10`",
    ("ten", "without"): "`loss.diffusion=10`, its tokens alone",
    ("longer", "with"): "discrete only, at equal FLOPs",
}
"""An arm of arms.sh and how it is drawn; the first is what the others are compared with."""
LAST = 10
"""Log lines of which the cross-entropy is the mean."""


def gather(work: Path) -> dict[str, Any]:
    """A row for each way of drawing a `WORK/runs/ARM-SEED`, with its images' values."""
    rows: Rows = []
    for folder in sorted((work / "runs").glob("*-[0-9]*")):
        arm, _, seed = folder.name.rpartition("-")
        log = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        logged = [row for line in log if "cross_entropy" in (row := json.loads(line))]
        for residual in (way for name, way in NAMES if name == arm):
            path = folder / DRAWN[residual] / "images.jsonl"
            images = [json.loads(line) for line in path.read_text().splitlines()]
            rows.append(
                {
                    "arm": arm,
                    "residual": residual,
                    "seed": int(seed),
                    "steps": logged[-1]["step"],
                    "cross_entropy": round(mean(row["cross_entropy"] for row in logged[-LAST:]), 4),
                    "correct": [int(image["correct"]) for image in images],
                    "gated": [int(image["gated"]) for image in images],
                    **{
                        name: [round(image["fidelity"][name], 2) for image in images]
                        for name in MEASURES
                    },
                }
            )
    return {"rows": rows}


def of(rows: Rows) -> dict[str, Rows]:
    """Rows by what the page calls them, in the order of NAMES."""
    found = {
        label: [row for row in rows if (row["arm"], row["residual"]) == drawn]
        for drawn, label in NAMES.items()
    }
    return {label: ours for label, ours in found.items() if ours}


def table(result: dict[str, Any]) -> str:
    """A line for each way of drawing an arm; differences are to the first, image by image."""
    lines = []
    first: Rows = []
    for label, ours in of(result["rows"]).items():
        losses = [row["cross_entropy"] for row in ours]
        each = ", ".join(f"{loss:.3f}" for loss in losses)
        cells = [label, str(ours[0]["steps"]), f"{mean(losses):.3f} ({each})"]
        for name in ("correct", "gated", *MEASURES):
            found = values(ours, name)
            cell = f"{mean(found):.2f}"
            if first:
                cell += f" ({difference(found, values(first, name))})"
            cells.append(cell)
        first = first or ours
        lines.append(cells)
    heading = ["", "steps", "cross-entropy", "score", "gated", *MEASURES.values()]
    return markdown(heading, lines)


def plot(result: dict[str, Any]) -> Figure:
    """A panel a measure; bars are means over images, dots the seeds."""
    arms = of(result["rows"])
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for panel, (name, label) in zip(
        figure.subplots(1, 2), [("correct", "score"), ("psnr_objects", "PSNR of the objects")],
        strict=True,
    ):  # fmt: skip
        for place, ours in enumerate(arms.values()):
            seeds = [mean(row[name]) for row in ours]
            panel.barh(place, mean(seeds), 0.6, color=f"C{place}")
            panel.plot(seeds, [place] * len(seeds), "k.", markersize=5)
        panel.set_yticks(range(len(arms)), [words.replace("`", "") for words in arms])
        panel.invert_yaxis()
        panel.set_title(label, fontsize=10)
    figure.axes[1].set_yticklabels([])
    return figure

"""What the residual's loss does to the discrete tokens: generators with equal sequences."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from paired import MEASURES, difference, values
from result_files import Rows, markdown

NAMES = {
    "discrete": "discrete only",
    "detached": "a head that the transformer does not feel",
    "one": "`loss.diffusion=1`",
    "ten": "`loss.diffusion=10`",
    "longer": "discrete only, at equal FLOPs",
}
"""Folders of arms.sh."""
LAST = 10
"""Log lines of which the cross-entropy is the mean."""


def gather(work: Path) -> dict[str, Any]:
    """A row a `WORK/runs/ARM-SEED`, with its images' values."""
    rows: Rows = []
    for folder in sorted((work / "runs").glob("*-[0-9]*")):
        arm, _, seed = folder.name.rpartition("-")
        log = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        logged = [row for line in log if "cross_entropy" in (row := json.loads(line))]
        lines = (folder / "scores" / "images.jsonl").read_text().splitlines()
        images = [json.loads(line) for line in lines]
        rows.append(
            {
                "arm": arm,
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


def table(result: dict[str, Any]) -> str:
    """A line an arm; differences are to the first, image by image over both seeds."""
    rows: Rows = result["rows"]
    lines = []
    for arm, label in NAMES.items():
        ours = [row for row in rows if row["arm"] == arm]
        if not ours:
            continue
        cells = [label, str(ours[0]["steps"]), f"{mean(row['cross_entropy'] for row in ours):.3f}"]
        for name in ("correct", "gated", *MEASURES):
            found = values(rows, name, arm=arm)
            cell = f"{mean(found):.2f}"
            if arm != "discrete":
                cell += f" ({difference(found, values(rows, name, arm='discrete'))})"
            cells.append(cell)
        lines.append(cells)
    heading = ["", "steps", "cross-entropy", "score", "gated", *MEASURES.values()]
    return markdown(heading, lines)


def plot(result: dict[str, Any]) -> Figure:
    """A panel a measure; bars are means over images, dots the seeds."""
    rows: Rows = result["rows"]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    there = [arm for arm in NAMES if any(row["arm"] == arm for row in rows)]
    for panel, (name, label) in zip(
        figure.subplots(1, 2), [("correct", "score"), ("psnr_objects", "PSNR of the objects")],
        strict=True,
    ):  # fmt: skip
        for place, arm in enumerate(there):
            seeds = [mean(row[name]) for row in rows if row["arm"] == arm]
            panel.barh(place, mean(seeds), 0.6, color=f"C{place}")
            panel.plot(seeds, [place] * len(seeds), "k.", markersize=5)
        panel.set_yticks(range(len(there)), [NAMES[arm].replace("`", "") for arm in there])
        panel.invert_yaxis()
        panel.set_title(label, fontsize=10)
    figure.axes[1].set_yticklabels([])
    return figure

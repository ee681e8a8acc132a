"""What fine-tuning forgets: the old world's scores and the new images, before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, markdown

NAMES = {
    "before": "before",
    "alone": "fine-tuned on the twenty alone",
    "rehearsed": "with the rehearsal above",
}
"""Folders of rehearsal.sh."""


def gather(work: Path) -> dict[str, Any]:
    """A row a checkpoint: `eval/NAME`, and `NAME.json` of what it knows of the new images."""
    rows: Rows = []
    for name in NAMES:
        results = json.loads((work / "eval" / name / "results.json").read_text())
        row = {
            "run": name,
            "overall": results["overall"],
            "gated": results["gated"],
            "n": results["n"],
            "psnr_objects_estimated": results["fidelity"]["psnr_objects"],
        }
        if name != "before":
            row["new_images"] = json.loads((work / f"{name}.json").read_text())
        rows.append(row)
    return {"rows": rows}


def table(result: dict[str, Any]) -> str:
    """A line a checkpoint."""
    lines = []
    for row in result["rows"]:
        new = ""
        if known := row.get("new_images"):
            psnr = known["psnr_against_reconstruction"]
            new = f"{known['nearest_to_their_own']} of {known['photos']}, {psnr:.1f} dB"
        lines.append([NAMES[row["run"]], f"{row['overall']:.3f}", f"{row['gated']:.3f}", new])
    return markdown(["", "old world: right", "right and recognizable", "new world"], lines)


def plot(result: dict[str, Any]) -> Figure:
    """Both scores of the old world, a group a checkpoint."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    panel = figure.subplots()
    places = range(len(result["rows"]))
    for shift, (key, label) in enumerate([("overall", "right"), ("gated", "and recognizable")]):
        bars = panel.bar(
            [place + 0.36 * (shift - 0.5) for place in places],
            [row[key] for row in result["rows"]],
            width=0.34,
            label=label,
        )
        panel.bar_label(bars, fmt="%.2f", fontsize=8)
    panel.set_xticks(
        list(places),
        [
            NAMES[row["run"]].replace(" on ", "\non ").replace(" the re", "\nthe re")
            for row in result["rows"]
        ],
    )
    panel.set(ylabel="images of the old world", ylim=(0, 1.25))
    panel.legend(frameon=False, fontsize=8)
    return figure

"""Stage 2 with every image on the discrete path (the paper's) beside half and half."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, markdown

NAMES = {"1": "every image on the discrete path (the paper)", "0.5": "half of them"}
"""`discrete_learning.discrete_prob` of the arms."""
STAGES = (2, 3)
VALUES = {
    "val_psnr_hybrid": ("PSNR, hybrid", 2),
    "val_psnr_discrete": ("PSNR, discrete", 2),
    "val_lpips_hybrid": ("LPIPS, hybrid", 3),
    "val_lpips_discrete": ("LPIPS, discrete", 3),
}
"""What is shown: its name in the log, its label, its digits."""


def gather(work: Path) -> dict[str, Any]:
    """A row a stage of an arm, `WORK/seed-S/stageN-PROB`: the last validation of its log."""
    rows: Rows = []
    for path in sorted(work.glob("seed-*/stage*-*/metrics.jsonl")):
        stage, _, prob = path.parent.name.removeprefix("stage").partition("-")
        logged = [json.loads(line) for line in path.read_text().splitlines()]
        last = [row for row in logged if "val_psnr_hybrid" in row][-1]
        used = [row["codebook_used"] for row in logged if "codebook_used" in row]
        rows.append(
            {
                "seed": int(path.parent.parent.name.removeprefix("seed-")),
                "discrete_prob": prob,
                "stage": int(stage),
                "step": last["step"],
                **{name: round(last[name], 4) for name in VALUES},
                "codes_used": round(used[-1], 4),
            }
        )
    return {"rows": rows}


def table(result: dict[str, Any]) -> str:
    """A line an arm and stage: means over seeds, each seed beside them."""

    def cell(values: list[float], digits: int) -> str:
        each = ", ".join(f"{value:.{digits}f}" for value in values)
        return f"{mean(values):.{digits}f} ({each})"

    lines = []
    for stage in STAGES:
        for prob, label in NAMES.items():
            rows = [
                row
                for row in result["rows"]
                if (row["stage"], row["discrete_prob"]) == (stage, prob)
            ]
            if not rows:
                continue
            worth = [row["val_psnr_hybrid"] - row["val_psnr_discrete"] for row in rows]
            cells = [
                cell([row[name] for row in rows], digits) for name, (_, digits) in VALUES.items()
            ]
            used = f"{100 * mean(row['codes_used'] for row in rows):.0f} %"
            lines.append([label, f"stage {stage}", *cells, cell(worth, 2), used])
    labels = [label for label, _ in VALUES.values()]
    heading = ["images of stage 2", "after", *labels, "the residual's worth", "codes used"]
    return markdown(heading, lines)


def plot(result: dict[str, Any]) -> Figure:
    """PSNR of both paths after each stage; bars are means over seeds, dots the seeds."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for panel, stage in zip(figure.subplots(1, 2, sharey=True), STAGES, strict=True):
        for place, prob in enumerate(NAMES):
            rows = [
                row
                for row in result["rows"]
                if (row["stage"], row["discrete_prob"]) == (stage, prob)
            ]
            for number, path in enumerate(("hybrid", "discrete") if rows else ()):
                values = [row[f"val_psnr_{path}"] for row in rows]
                x = place + 0.4 * (number - 0.5)
                panel.bar(x, mean(values), 0.36, color=f"C{number}")
                panel.plot([x] * len(values), values, "k.", markersize=5)
        panel.set_xticks(range(len(NAMES)), ["all discrete\n(the paper)", "half"])
        panel.set(title=f"after stage {stage}", ylabel="PSNR, dB")
    figure.suptitle("blue: hybrid path, orange: discrete path; dots are seeds", fontsize=10)
    return figure

"""Fig. 6: quality against unmasking steps by order, beside the true scenes and by both scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import paired
from matplotlib.figure import Figure
from result_files import Rows, markdown

LABELS = {"psnr": "PSNR (dB)", "psnr_objects": "of the objects", "correct": "score"}


def gather(work: Path) -> dict[str, Any]:
    """Sweeps of the standard benchmark, and runs `hard-SEED-ORDER-STEPS` of the hard one."""
    gathered = paired.gather(work)
    hard: Rows = []
    for path in sorted(work.glob("hard-*/results.json")):
        results = json.loads(path.read_text())
        _, seed, order, steps = path.parent.name.split("-")
        hard.append(
            {"seed": int(seed), "order": order, "num_steps": int(steps)}
            | {name: round(results[name]["overall"], 4) for name in ("unseen", "seen")}
            | {"gated": round(results["gated"], 4), "n": results["unseen"]["n"]}
        )
    return {**gathered, "hard": hard}


def table(result: dict[str, Any]) -> str:
    """A block of lines a measure, a line an order; behind PSNR, what it is less than at the end."""
    rows = result["rows"]
    steps = sorted({row["num_steps"] for row in rows})
    orders = [*dict.fromkeys(row["order"] for row in rows)]
    lines: list[list[str]] = []
    for name, label in LABELS.items():
        for order in orders:
            end = paired.values(rows, name, order=order, num_steps=steps[-1])
            cells = []
            for count in steps:
                here = paired.values(rows, name, order=order, num_steps=count)
                cells.append(f"{paired.mean(rows, name, order=order, num_steps=count):.2f}")
                if count != steps[-1]:
                    cells[-1] += f" ({paired.difference(here, end)})"
            lines.append([label, order, *cells])
    for order in orders if result["hard"] else []:
        cells = [_hard(result["hard"], order, count) for count in steps]
        lines.append(["score, hard, unseen", order, *cells])
    return markdown(["", "order, by steps", *map(str, steps)], lines)


def _hard(rows: Rows, order: str, steps: int) -> str:
    found = [row["unseen"] for row in rows if (row["order"], row["num_steps"]) == (order, steps)]
    return f"{sum(found) / len(found):.2f}" if found else "-"


def plot(result: dict[str, Any]) -> Figure:
    """PSNR beside the score, along the steps."""
    rows = result["rows"]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for panel, name in zip(figure.subplots(1, 2), ("psnr_objects", "correct"), strict=True):
        steps = sorted({row["num_steps"] for row in rows})
        for order in dict.fromkeys(row["order"] for row in rows):
            means = [paired.mean(rows, name, order=order, num_steps=count) for count in steps]
            panel.plot(steps, means, "o-", markersize=4, label=order)
        panel.set_xscale("log", base=2)
        panel.set_xticks(steps, list(map(str, steps)))
        panel.minorticks_off()
        panel.set_xlabel("unmasking steps")
        panel.legend(title="order", frameon=False)
    left, right = figure.axes
    left.set(ylabel="PSNR of the objects in dB")
    right.set(ylabel="scenes, overall (held-out prompts)", ylim=(0, 1.05))
    figure.suptitle("Fidelity and score against unmasking steps (Fig. 6)")
    return figure

"""Tables 5 and 6: runs that differ in one thing, by what their logs say."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_files import markdown

COMPARISONS: dict[str, dict[str, Any]] = {
    "table5": {
        "title": "Three strategies of training the tokenizer at equal budget (Table 5)",
        "y": "PSNR in dB, validation scenes at 128 px",
        "values": {"val_psnr_hybrid": "hybrid", "val_psnr_discrete": "discrete"},
        "digits": 2,
        "names": {
            "three_stages": "three stages",
            "no_warmup": "no warm-up",
            "alternate_all_trainable": "alternate, all trainable",
        },
    },
    "table6": {
        "title": "512 px from the 256 px weights, and from scratch (Table 6, Fig. 10)",
        "y": "training loss",
        "values": {"cross_entropy": "cross-entropy", "diffusion": "diffusion"},
        "digits": 3,
        "names": {"pretrained": "from 256 px", "scratch": "from scratch"},
    },
}
"""What is compared: the names of the runs, and which values of their logs."""


def gather(work: Path) -> dict[str, Any]:
    """The curves of `WORK/VARIANT-SEED/metrics.jsonl`, of every value that is compared anywhere."""
    values = {value: None for comparison in COMPARISONS.values() for value in comparison["values"]}
    rows = []
    for path in sorted(work.glob("*-[0-9]*/metrics.jsonl")):
        variant, _, seed = path.parent.name.rpartition("-")
        logged = [json.loads(line) for line in path.read_text().splitlines()]
        curves = {
            value: [[row["step"], round(row[value], 5)] for row in logged if value in row]
            for value in values
        }
        found = {value: curve for value, curve in curves.items() if curve}
        rows.append({"variant": variant, "seed": int(seed), "curves": found})
    return {"rows": rows}


def table(result: dict[str, Any]) -> str:
    """The last values, means over seeds, each seed beside them."""
    comparison = COMPARISONS[result["result"]]
    digits = comparison["digits"]
    last: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in result["rows"]:
        for value in comparison["values"]:
            last[run["variant"]][value].append(run["curves"][value][-1][1])

    def cell(values: list[float]) -> str:
        if not values:
            return "NOT RUN"
        each = ", ".join(f"{value:.{digits}f}" for value in values)
        mean = f"{statistics.mean(values):.{digits}f}"
        return f"{mean} ({each})" if len(values) > 1 else mean

    lines = [
        [label, *(cell(last[variant][value]) for value in comparison["values"])]
        for variant, label in comparison["names"].items()
    ]
    return markdown(["", *comparison["values"].values()], lines)


def plot(result: dict[str, Any]) -> Figure:
    """A panel a value, a color a variant; the second seed is dashed."""
    comparison = COMPARISONS[result["result"]]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, len(comparison["values"]), sharex=True)
    for run in result["rows"]:
        color = f"C{list(comparison['names']).index(run['variant'])}"
        label = comparison["names"][run["variant"]] if run["seed"] == 0 else None
        style = "-" if run["seed"] == 0 else "--"
        for panel, value in zip(panels, comparison["values"], strict=True):
            steps, values = zip(*run["curves"][value], strict=True)
            panel.plot(steps, values, style, color=color, label=label, linewidth=1.5)
    for panel, label in zip(panels, comparison["values"].values(), strict=True):
        panel.set(title=label, xlabel="step", ylabel=comparison["y"])
        panel.legend(frameon=False)
    seeds = {run["seed"] for run in result["rows"]}
    note = "; dashed: a second seed" if len(seeds) > 1 else ""
    figure.suptitle(comparison["title"] + note, fontsize=11)
    return figure

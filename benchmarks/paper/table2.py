"""Table 2's efficiency columns for the bundled checkpoint, by size and precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, markdown


def gather(work: Path) -> dict[str, Any]:
    """The measurements of `WORK/SIZE/results.json`, a row a size and precision."""
    rows: Rows = []
    shared: dict[str, Any] = {}
    for path in sorted(work.glob("*/results.json")):
        results = json.loads(path.read_text())
        settings, measured = results["settings"], results["run"]["measurements"]
        shared = {
            "weights": settings["weights"],
            "definition": results["protocol"]["definition"],
            "machine": results["run"]["machine"],
            "threads": results["run"]["threads"],
        }
        # Batch 1 and batch 16 of each precision come one after the other.
        for single, batch in zip(measured[::2], measured[1::2], strict=True):
            rows.append(
                {
                    "size": settings["size"][0],
                    "precision": single["precision"],
                    "steps": settings["sampling"]["num_steps"],
                    "parameters": settings["parameters"],
                    "gflop": round(sum(results["flops"].values()) / 1e9, 2),
                    "latency": round(single["seconds"], 4),
                    "images_per_second": round(batch["images_per_second"], 4),
                    "parts": {part: round(s, 4) for part, s in single["parts"].items()},
                    "peak_bytes": batch["peak_bytes"],
                }
            )
    return {**shared, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """A line a row."""
    headings = ["size", "precision", "parameters", "steps", "GFLOP an image", "latency (s)"]
    lines = [
        [
            f"{row['size']} px",
            row["precision"],
            f"{row['parameters'] / 1e6:.2f} M",
            str(row["steps"]),
            f"{row['gflop']:.1f}",
            f"{row['latency']:.2f}",
            f"{row['images_per_second']:.2f}",
            f"{row['peak_bytes'] / 2**30:.2f} GiB",
        ]
        for row in result["rows"]
    ]
    return markdown([*headings, "images/s (batch 16)", "peak memory"], lines)


def plot(result: dict[str, Any]) -> Figure:
    """Where the time of one image goes."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panel = figure.subplots()
    names = [f"{row['size']} px, {row['precision']}" for row in result["rows"]]
    ends = [0.0] * len(names)
    for part in result["rows"][0]["parts"]:
        widths = [row["parts"][part] for row in result["rows"]]
        panel.barh(names, widths, left=ends, label=part)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    panel.invert_yaxis()
    panel.set(xlabel=f"seconds of one image, threads: {result['threads']}")
    figure.legend(loc="outside right center", frameon=False)
    figure.suptitle("Latency by part (Table 2)", fontsize=11)
    return figure

"""GtR's order (arXiv 2510.17171) against the paper's at few steps, image by image."""

from __future__ import annotations

from typing import Any

import paired
from matplotlib.figure import Figure
from result_files import markdown

gather = paired.gather
ORDERS = {"confidence": "plain", "gtr": "GtR"}


def table(result: dict[str, Any]) -> str:
    """A line a number of steps: both orders, and GtR minus plain."""
    rows = result["rows"]
    lines = []
    for steps in sorted({row["num_steps"] for row in rows}):
        line = [str(steps)]
        for name in (*paired.MEASURES, "correct"):
            found = [paired.values(rows, name, order=o, num_steps=steps) for o in ORDERS]
            line += [f"{sum(values) / len(values):.2f}" for values in found]
            line.append(str(paired.difference(found[1], found[0])))
        lines.append(line)
    heading = ["steps"]
    for label in (*paired.MEASURES.values(), "score"):
        heading += [f"{label}, plain", "GtR", "GtR minus plain"]
    return markdown(heading, lines)


def plot(result: dict[str, Any]) -> Figure:
    """PSNR of the objects along the steps."""
    rows = result["rows"]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    panel = figure.subplots()
    steps = sorted({row["num_steps"] for row in rows})
    for order, label in ORDERS.items():
        means = [paired.mean(rows, "psnr_objects", order=order, num_steps=n) for n in steps]
        panel.plot(steps, means, "o-", label=label)
    panel.set(xlabel="unmasking steps", ylabel="PSNR of the objects in dB")
    panel.legend(frameon=False)
    figure.suptitle(f"GtR at {result['size']} px")
    return figure

"""FTS (arXiv 2510.17171): a few positions in 20 steps and the others in 3, against 5 everywhere.

The mean number of steps is equal, and so is what the head costs. Both schedules are spaced as the
solver spaces so many steps.
"""

from __future__ import annotations

from typing import Any

import paired
from matplotlib.figure import Figure
from result_files import Rows, markdown

gather = paired.gather
HEADS = {
    (20, None): "20 everywhere",
    (5, None): "5 everywhere",
    (20, "frequency"): "FTS, 20 and 3",
    (20, "random"): "by lot, 20 and 3",
    (3, None): "3 everywhere",
}
EQUAL = (5, None)


def _of(rows: Rows, name: str, head: tuple[int, str | None]) -> list[float]:
    steps, fts = head
    return paired.values(rows, name, num_diffusion_steps=steps, fts=fts)


def table(result: dict[str, Any]) -> str:
    """A line a schedule, held against 5 steps everywhere."""
    rows = result["rows"]
    lines = []
    for head, label in HEADS.items():
        line = [label]
        for name in paired.MEASURES:
            ours = _of(rows, name, head)
            line += [
                f"{sum(ours) / len(ours):.2f}",
                "-" if head == EQUAL else str(paired.difference(ours, _of(rows, name, EQUAL))),
            ]
        correct = _of(rows, "correct", head)
        lines.append([*line, f"{sum(correct) / len(correct):.2f}"])
    heading = ["steps of the head"]
    for label in paired.MEASURES.values():
        heading += [label, "against 5 everywhere"]
    return markdown([*heading, "score"], lines)


def plot(result: dict[str, Any]) -> Figure:
    """Differences from 5 steps everywhere, with their errors."""
    rows = result["rows"]
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    panel = figure.subplots()
    heads = [head for head in HEADS if head != EQUAL]
    for place, head in enumerate(heads):
        found = paired.difference(_of(rows, "psnr", head), _of(rows, "psnr", EQUAL))
        panel.errorbar(found.mean, place, xerr=found.error, fmt="o", capsize=3, color="C0")
    panel.set_yticks(range(len(heads)), [HEADS[head] for head in heads])
    panel.axvline(0, color="black", linewidth=1)
    panel.set(xlabel="PSNR in dB, against 5 steps everywhere")
    figure.suptitle("FTS at equal cost")
    return figure

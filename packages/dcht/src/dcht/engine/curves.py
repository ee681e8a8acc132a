"""A run's curves as one image and as one table, from its `metrics.jsonl`.

What belongs into which panel, and where something new began, is for a training loop to say.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dcht.files import write_atomic

COLUMNS = 2
PANEL_INCHES = (6.0, 3.2)
DPI = 110


class Panel(NamedTuple):
    """One axis: its title, and the label of each logged value that is plotted on it."""

    title: str
    labels: Mapping[str, str]
    log_scale: bool = False


def plot_curves(
    rows: Sequence[Mapping[str, float]],
    panels: Sequence[Panel],
    path: str | Path,
    *,
    marks: Mapping[float, str],
) -> None:
    """Write the curves as a PNG, and beside it all that was logged as a CSV.

    Args:
        rows: what was logged, each with its `step`; a value need not be in every row.
        panels: what to plot; a panel none of whose values was ever logged is left out.
        path: the image; both files are written whole or not at all. A row of the CSV is a step, a
            column a value; what was not logged at a step is empty.
        marks: steps at which something began, and its name; a line through every panel.
    """
    from matplotlib.figure import Figure

    logged = {name for row in rows for name in row}
    plotted = [panel for panel in panels if logged & panel.labels.keys()]
    height = -(-len(plotted) // COLUMNS)
    size = (PANEL_INCHES[0] * COLUMNS, PANEL_INCHES[1] * height)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    for index, panel in enumerate(plotted):
        axes = figure.add_subplot(height, COLUMNS, index + 1)
        for name in [name for name in panel.labels if name in logged]:
            points = [(row["step"], row[name]) for row in rows if name in row]
            steps, values = zip(*points, strict=True)
            # A curve of few points shows them: a line through one point is nothing to see.
            marker = "o" if len(points) < 30 else None
            axes.plot(
                steps, values, label=panel.labels[name], linewidth=1.4, marker=marker, markersize=3
            )
        if panel.log_scale:
            axes.set_yscale("log")
        for step, name in marks.items():
            axes.axvline(step, color="0.6", linewidth=0.8, linestyle="--")
            if index < COLUMNS:
                axes.annotate(
                    name,
                    (step, 1),
                    xycoords=("data", "axes fraction"),
                    xytext=(3, -3),
                    textcoords="offset points",
                    rotation=90,
                    va="top",
                    fontsize=7,
                    color="0.4",
                )
        axes.set_title(panel.title, fontsize=10, loc="left")
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8, which="both")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(panel.labels) > 1:
            axes.legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomic(Path(path), buffer.getvalue())
    write_atomic(Path(path).with_suffix(".csv"), _as_csv(rows).encode())


def _as_csv(rows: Sequence[Mapping[str, float]]) -> str:
    """One line a step: a step that was logged twice (a row of losses, one of validation) is one."""
    steps: dict[float, dict[str, float]] = {}
    for row in rows:
        steps.setdefault(row["step"], {}).update(row)
    names = dict.fromkeys(["step", *(name for row in rows for name in row)])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(steps.values())
    return text.getvalue()

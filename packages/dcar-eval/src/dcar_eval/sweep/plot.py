"""A sweep as an image: quality along its first axis, and quality against time."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcar_eval.sweep.axes import label
from dcht.files import write_atomic

PLOTS = ("sweep.png", "sweep.svg")
QUALITY = "scenes, overall (held-out prompts)"


def write_plots(results: dict[str, Any], out: Path) -> None:
    """Write `sweep.png` and `sweep.svg`: the same figure, and the same bytes for equal results."""
    with rc_context({"svg.hashsalt": "sweep"}):
        figure = plot_sweep(results)
        for name in PLOTS:
            buffer = io.BytesIO()
            kind = name.rpartition(".")[2]
            metadata = {"Date": None} if kind == "svg" else {}
            figure.savefig(buffer, format=kind, metadata=metadata)
            write_atomic(out / name, buffer.getvalue())


def plot_sweep(results: dict[str, Any]) -> Figure:
    """The figure of a sweep's results; error bars are one standard error.

    A line for each combination of the other axes. Where the first axis has no numbers, its values
    stand side by side.
    """
    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
    along, against = figure.subplots(1, 2, sharey=True)
    first, *others = results["axes"]
    numbers = all(type(value) in (int, float) for value in results["axes"][first])
    lines: dict[str, list[tuple[Any, dict[str, Any], float]]] = defaultdict(list)
    for point, speed in zip(results["points"], results["run"]["speed"], strict=True):
        value = point["settings"][first]
        rest = ", ".join(f"{axis} {label(point['settings'][axis])}" for axis in others)
        seconds = 1 / speed["images_per_second"]
        lines[rest].append((value if numbers else label(value), point, seconds))
    for rest, line in lines.items():
        values, measured, seconds = zip(*line, strict=True)
        overall = [point["overall"] for point in measured]
        bars = [point["stderr"] for point in measured]
        style = {"marker": "o", "markersize": 4, "capsize": 2, "linewidth": 1.4, "label": rest}
        along.errorbar(values, overall, bars, linestyle="-" if numbers else "none", **style)
        against.errorbar(seconds, overall, bars, linestyle="none", **style)
        for value, x, y in zip(values, seconds, overall, strict=True):
            against.annotate(
                label(value), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
    cited = results["cited"] if numbers else []
    _show_cited(along, cited)
    if numbers and min(results["axes"][first]) > 0:
        along.set_xscale("log", base=2)
        ticks = sorted({*results["axes"][first], *(value for value, _ in cited)})
        along.set_xticks(ticks, [label(tick) for tick in ticks])
        along.minorticks_off()
    along.set_xlabel(first)
    along.set_ylabel(QUALITY)
    along.set_ylim(bottom=0)  # a share: how much two settings differ is seen against all of it
    device = results["run"]["speed"][0]["device"]
    against.set_xlabel(f"seconds an image at batch 16 ({device})", fontsize=9)
    for axes in (along, against):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    if others:
        along.legend(fontsize=8, frameon=False)
    points = results["points"]
    title = f"{results['sweep'] or 'sweep'}: {points[0]['n']} images a point"
    figure.suptitle(f"{title}, bars are one standard error", fontsize=10)
    return figure


def _show_cited(axes: Axes, cited: list[list[Any]]) -> None:
    """A dashed line where the paper has something, with the words that say what."""
    for value, words in cited:
        axes.axvline(value, color="0.6", linewidth=0.9, linestyle="--")
        axes.annotate(
            words, (value, 0), xycoords=("data", "axes fraction"), xytext=(-3, 4),
            textcoords="offset points", rotation=90, ha="right", va="bottom", fontsize=7,
            color="0.4",
        )  # fmt: skip

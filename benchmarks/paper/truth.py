"""Fig. 6 by fidelity: how like the true scenes the images are, by unmasking steps.

Prompts and noise are the same at every point, so points are compared image by image.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, briefly, markdown

SHARED = ("num_per_task", "size", "seed", "noise_seed", "recognisable", "lpips")
MEASURES = {
    "psnr": "PSNR in dB",
    "psnr_objects": "of the objects",
    "ssim": "SSIM",
    "lpips": "LPIPS",
}


def gather(work: Path) -> dict[str, Any]:
    """The points of `WORK/halton-NUMBER/results.json`, each compared with its last."""
    rows: Rows = []
    shared: dict[str, Any] = {}
    for path in sorted(work.glob("halton-*/results.json")):
        results = json.loads(path.read_text())
        shared = {key: results["settings"][key] for key in SHARED}
        count = len(results["points"])
        images = [_psnrs(path.parent / "points" / f"{number:03d}") for number in range(count)]
        for point, here in zip(results["points"], images, strict=True):
            changes = [ours - last for ours, last in zip(here, images[-1], strict=True)]
            error = statistics.stdev(changes) / len(changes) ** 0.5
            rows.append(
                {
                    "weights": results["settings"]["weights"],
                    "seed": results["settings"]["seed"],
                    **point["settings"],
                    "n": point["n"],
                    "overall": round(point["overall"], 4),
                    "gated": round(point["gated"], 4),
                    **_rounded(point["fidelity"]),
                    "ceiling": _rounded(point["fidelity"]["ceiling"]),
                    "change": round(statistics.mean(changes), 3),
                    "error": round(error, 3),
                }
            )
    return {**shared, "rows": rows}


def _psnrs(folder: Path) -> list[float]:
    lines = (folder / "images.jsonl").read_text().splitlines()
    return [json.loads(line)["fidelity"]["psnr"] for line in lines]


def _rounded(found: dict[str, Any]) -> dict[str, float | None]:
    return {name: None if found[name] is None else round(found[name], 4) for name in MEASURES}


def table(result: dict[str, Any]) -> str:
    """For each weights a line a number of steps; their last line is their tokenizer's."""
    rows = result["rows"]
    measures = {name: label for name, label in MEASURES.items() if rows[0][name] is not None}
    digits = {"psnr": 2, "psnr_objects": 2, "ssim": 3, "lpips": 3}

    def cells(found: dict[str, Any]) -> list[str]:
        return [f"{found[name]:.{digits[name]}f}" for name in measures]

    lines: list[list[str]] = []
    for weights, own in _by_weights(rows).items():
        for row in own:
            lines.append([briefly(weights), str(row["num_steps"])])
            lines[-1] += [f"{row['overall']:.3f}", f"{row['gated']:.3f}", *cells(row)]
            lines[-1] += [f"{row['change']:+.2f} ± {row['error']:.2f}"]
        ceiling = cells(own[-1]["ceiling"])
        lines.append([briefly(weights), "the tokenizer's ceiling", "-", "-", *ceiling, "-"])
    against = f"PSNR against {rows[-1]['num_steps']} steps, by image"
    heading = ["weights", "steps", "score", "score, gated", *measures.values(), against]
    return markdown(heading, lines)


def _by_weights(rows: Rows) -> dict[str, Rows]:
    return {
        weights: [row for row in rows if row["weights"] == weights]
        for weights in dict.fromkeys(row["weights"] for row in rows)
    }


def plot(result: dict[str, Any]) -> Figure:
    """Fidelity beside the score, along the steps."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = sorted({row["num_steps"] for row in result["rows"]})
    for weights, own in _by_weights(result["rows"]).items():
        name = briefly(weights).replace("`", "")
        here = [row["num_steps"] for row in own]
        for measure, label, mark in (("psnr", "", "o-"), ("psnr_objects", ", objects", "s:")):
            values = [row[measure] for row in own]
            (line,) = left.plot(here, values, mark, label=f"{name}{label}")
            ceiling = own[-1]["ceiling"][measure]
            left.axhline(ceiling, linestyle="--", linewidth=1, color=line.get_color())
        for score, label, mark in (("overall", "correct", "o-"), ("gated", "recognizable", "s:")):
            right.plot(here, [row[score] for row in own], mark, label=f"{name}, {label}")
    left.set(ylabel="PSNR in dB; dashed: the tokenizer's ceiling")
    right.set(ylabel="scenes, overall (held-out prompts)", ylim=(0, 1.05))
    for panel in (left, right):
        panel.set_xscale("log", base=2)
        panel.set_xticks(steps, list(map(str, steps)))
        panel.minorticks_off()
        panel.set_xlabel("unmasking steps")
        panel.legend(frameon=False, fontsize=8)
    figure.suptitle("Fidelity and score against unmasking steps (Fig. 6), Halton order")
    return figure

"""What the estimator of fidelity is worth: its guesses beside what true scenes say.

`WORK/*/` are runs of `dcar-eval scenes-eval --sprites`, whose rows hold the fidelity that was
measured; each image is estimated again without its art.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from result_files import Rows, markdown

from dcar_eval.geneval import evaluate_detections
from dcar_eval.scenes.estimator import Estimator
from dcar_eval.scenes.judge import estimate
from dcar_eval.scenes.recognizer import Recognizer
from dcht.images import open_image

NAMES = {
    "steps-0": "1 step", "steps-1": "2 steps", "steps-2": "4 steps", "steps-3": "8 steps",
    "steps-4": "12 steps", "size-512": "12 steps, 512 px", "hot": "12 steps, temperature 4",
    "release": "12 steps, release 0.1.0's checkpoint", "older": "12 steps, an older one",
    "blur-4": "12 steps, blurred by 4 px", "blur-8": "by 8 px", "shrunk": "shrunk to 16 x 16 px",
}  # fmt: skip
"""Folders of estimator.sh."""


def gather(work: Path) -> dict[str, Any]:
    """A row an image: what was measured, and what is estimated."""
    recognizer, _ = Recognizer.from_pretrained()
    estimator, sha256 = Estimator.from_pretrained()
    options = recognizer.config.options
    rows: Rows = []
    for name in NAMES:
        settings = json.loads((work / name / "results.json").read_text())["settings"]
        images = work / name / "images"
        if not images.is_dir():
            images = work / f"{name}-images"
        for line in (work / name / "images.jsonl").read_text().splitlines():
            known = json.loads(line)
            image = open_image(images / known["file"])
            (found,) = recognizer.detect([image])
            guess = estimate(estimator, image, found, options)
            correct = evaluate_detections(known["metadata"], found, options).correct
            rows.append(
                {
                    "run": name,
                    "weights": settings.get("weights"),
                    "correct": correct,
                    "psnr": round(known["fidelity"]["psnr_objects"], 2),
                    "estimate": round(guess.psnr_objects, 2),
                    "gated": known["gated"],
                    "gated_estimate": correct and guess.recognizable,
                }
            )
    return {"estimator": sha256, "rows": rows}


def correlation(rows: Rows) -> float:
    """Of the estimates with what was measured."""
    pairs = np.array([[row["psnr"], row["estimate"]] for row in rows])
    return float(np.corrcoef(pairs.T)[0, 1])


def table(result: dict[str, Any]) -> str:
    """A line a run, and all of them."""
    everything: Rows = result["rows"]
    runs = {NAMES[name]: [row for row in everything if row["run"] == name] for name in NAMES}
    lines = []
    for label, rows in {**runs, "all": everything}.items():
        means = {
            key: float(np.mean([row[key] for row in rows]))
            for key in ("psnr", "estimate", "gated", "gated_estimate")
        }
        away = float(np.mean([abs(row["psnr"] - row["estimate"]) for row in rows]))
        lines.append(
            [
                label, str(len(rows)), f"{means['psnr']:.2f}", f"{means['estimate']:.2f}",
                f"{away:.2f}", f"{correlation(rows):.2f}", f"{means['gated']:.2f}",
                f"{means['gated_estimate']:.2f}",
            ]
        )  # fmt: skip
    heading = [
        "images", "n", "PSNR of the objects, measured", "estimated", "mean distance",
        "correlation", "gated, measured", "gated, estimated",
    ]  # fmt: skip
    return markdown(heading, lines)


def plot(result: dict[str, Any]) -> Figure:
    """Estimated against measured, a dot an image."""
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    panel = figure.subplots()
    for name, label in NAMES.items():
        rows = [row for row in result["rows"] if row["run"] == name]
        x, y = ([row[key] for row in rows] for key in ("psnr", "estimate"))
        panel.plot(x, y, ".", markersize=4, label=label)
    ends = [min(row["psnr"] for row in result["rows"]), max(row["psnr"] for row in result["rows"])]
    panel.plot(ends, ends, color="black", linewidth=1)
    panel.set(xlabel="PSNR of the objects in dB, measured", ylabel="estimated")
    panel.legend(frameon=False, fontsize=7)
    figure.suptitle(f"The ruler without art: correlation {correlation(result['rows']):.2f}")
    return figure

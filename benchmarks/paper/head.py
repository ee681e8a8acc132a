"""What the residual head is trained to say: objectives beside each other (`head_train.py`)."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, markdown

STEPS = (1, 2, 4, 8, 20)
ALONE = ("no residual", "the code's mean", "the true residual")
"""What needs no head."""


def gather(work: Path) -> dict[str, Any]:
    """The rows of every `seed-*/rows.json`."""
    files = [json.loads(path.read_text()) for path in sorted(work.glob("seed-*/rows.json"))]
    shares = [file["mean_of_codes"] for file in files]
    rows: Rows = [row for file in files for row in file["rows"]]
    return {"train_steps": [file["steps"] for file in files], "mean_of_codes": shares, "rows": rows}


def arms(rows: Rows) -> list[tuple[str, bool, float]]:
    """Objective, whether centered, temperature: those with steps, in their order."""
    found = [(row["arm"], row["centered"], row["temperature"]) for row in rows]
    return [arm for arm in dict.fromkeys(found) if arm[0] not in ALONE]


def mean(rows: Rows, name: str, **settings: Any) -> float | None:
    """Over seeds; None where there is no such row."""
    found = [row[name] for row in rows if all(row[key] == settings[key] for key in settings)]
    return statistics.mean(found) if found else None


def told(rows: Rows, **settings: Any) -> str:
    """PSNR, and KID in thousandths."""
    psnr, kid = (mean(rows, name, **settings) for name in ("psnr", "kid"))
    return "" if psnr is None or kid is None else f"{psnr:.2f} ({1000 * kid:.1f})"


def table(result: dict[str, Any]) -> str:
    """A line an objective and temperature, a column a number of steps."""
    rows: Rows = result["rows"]
    lines = []
    for name in ALONE[:2]:
        lines.append([name, "-", told(rows, arm=name), *[""] * (len(STEPS) - 1)])
    for arm, centered, temperature in arms(rows):
        settings = {"arm": arm, "centered": centered, "temperature": temperature}
        lines.append(
            [
                f"{arm}, centered" if centered else arm,
                "-" if arm == "regression" else f"{temperature:g}",
                *[told(rows, steps=steps, **settings) for steps in STEPS],
            ]
        )
    heading = ["trained to say", "temperature", *[f"{steps} steps" for steps in STEPS]]
    return markdown([*heading[:2], "1 step", *heading[3:]], lines)


def plot(result: dict[str, Any]) -> Figure:
    """PSNR and KID against steps, at temperatures 0 and 1."""
    rows: Rows = result["rows"]
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, temperature in enumerate((0.0, 1.0)):
        for row, (name, label) in enumerate([("psnr", "PSNR, dB"), ("kid", "KID")]):
            panel = panels[row, column]
            for arm, centered, _ in [key for key in arms(rows) if key[2] == temperature]:
                settings = {"arm": arm, "centered": centered, "temperature": temperature}
                if arm == "regression":
                    continue
                values = {steps: mean(rows, name, steps=steps, **settings) for steps in STEPS}
                values = {steps: value for steps, value in values.items() if value is not None}
                style = "--" if centered else "-"
                text = f"{arm}, centered" if centered else arm
                panel.plot(
                    list(values), list(values.values()), style, marker="o", markersize=3, label=text
                )
            for arm, color in (("regression", "black"), ("no residual", "gray")):
                if (value := mean(rows, name, arm=arm, centered=False)) is not None:
                    panel.axhline(value, color=color, linestyle=":", label=arm)
            if row == 1:
                panel.set(xlabel="steps", xscale="log", yscale="log")
                panel.set_xticks(STEPS, [str(steps) for steps in STEPS])
            else:
                panel.set_title(f"temperature {temperature:g}")
            panel.set_ylabel(label)
    panels[0, 0].legend(frameon=False, fontsize=7)
    return figure

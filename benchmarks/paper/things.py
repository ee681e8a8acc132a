"""Things alone in an image: which of those that a checkpoint knows can be told by a recognizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, briefly, markdown
from standard import runs


def gather(work: Path) -> dict[str, Any]:
    """Runs in `WORK/NUMBER[-shrunk]`, and of `WORK/ceiling.json` the things that they know."""
    ceiling = json.loads((work / "ceiling.json").read_text())
    blurred = ceiling["reconstructed"]
    rows: Rows = []
    for row, results in runs(work):
        things = results["things"]
        rows.append(
            {
                **row,
                "n": results["n"],
                "known": results["known"],
                "drawn": results["drawn"],
                "overall": results["overall"],
                "gated": results["gated"],
                "psnr_objects_estimated": round(results["fidelity"]["psnr_objects"], 3),
                "true": _mean(ceiling["things"], things),
                "reconstructed": _mean(blurred["things"], things),
                "missed": [name for name, share in things.items() if share <= 0.5],
            }
        )
    numbers = {"num_per_task": ceiling["num_per_task"], "seed": ceiling["seed"]}
    judge = {"refused": ceiling["refused"], **numbers}
    return {"tokenizer_sha256": blurred["tokenizer_sha256"], "recognizer": judge, "rows": rows}


def _mean(shares: dict[str, float], names: dict[str, float]) -> float:
    return round(sum(shares[name] for name in names) / len(names), 4)


def table(result: dict[str, Any]) -> str:
    """A line a run, and what the first does not draw."""
    lines = []
    for row in result["rows"]:
        name = f"{briefly(row['weights'])}{', as 16 x 16 px' * row['shrunk']}"
        known, drawn = row["known"], row["drawn"]
        shares = [row[name] for name in ("gated", "true", "reconstructed")]
        gated, true, blurred = (f"{share:.3f}" for share in shares)
        decibels = f"{row['psnr_objects_estimated']:.1f}"
        counts = [str(known), str(drawn), f"{drawn / known:.3f}"]
        lines.append([name, *counts, gated, decibels, true, blurred])
    heading = ["images", "known", "drawn", "share", "gated", "PSNR of the objects, estimated (dB)"]
    heading += ["true images, judged right", "through the bundled tokenizer"]
    missed = ", ".join(result["rows"][0]["missed"])
    return f"{markdown(heading, lines)}\nNot drawn by the first: {missed}.\n"


def plot(result: dict[str, Any]) -> Figure:
    """Known, drawn and recognizable things of every run."""
    rows = result["rows"][::-1]
    figure = Figure(figsize=(8, 0.8 + 0.5 * len(rows)), layout="constrained")
    panel = figure.subplots()
    counts = {
        "known": [row["known"] for row in rows],
        "right": [row["drawn"] for row in rows],
        "and recognizable": [row["gated"] * row["known"] for row in rows],
    }
    for (words, values), color in zip(counts.items(), ("lightgray", "C0", "C1"), strict=True):
        panel.barh(range(len(rows)), values, color=color, label=words)
    names = [
        briefly(row["weights"]).replace("`", "") + "\n16 x 16 px" * row["shrunk"] for row in rows
    ]
    panel.set_yticks(range(len(rows)), names)
    panel.set(xlabel="things")
    panel.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure

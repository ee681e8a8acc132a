"""The scenes benchmark of what ships, at two sizes, and of the same images after 16 x 16 pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, briefly, markdown

MEASURES = ("psnr", "psnr_objects", "ssim", "lpips")
SHRUNK = "-shrunk"
"""How the folders of spoiled images end."""


def runs(work: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Of each `WORK/NAME[-shrunk]` whose images it judged, and the content of its `results.json`.

    Images that were given know no weights: those of a spoiled run are the unspoiled one's.
    """
    for path in sorted(work.glob("*/results.json")):
        drawn = path.parent.name.removesuffix(SHRUNK)
        settings = json.loads((work / drawn / path.name).read_text())["settings"]
        row = {"weights": settings["weights"], "size": settings["size"]}
        yield row | {"shrunk": drawn != path.parent.name}, json.loads(path.read_text())


def gather(work: Path) -> dict[str, Any]:
    """A row for each run of `WORK/NUMBER-SIZE[-shrunk]/results.json`."""
    rows: Rows = []
    recognizer: dict[str, Any] = {}
    for row, results in runs(work):
        judge, found = results["recognizer"], results["fidelity"]
        recognizer = {key: judge[key] for key in ("sha256", "overall", "tasks")}
        rows.append(
            {
                **row,
                "n": results["n"],
                "overall": results["overall"],
                "tasks": results["tasks"],
                "gated": results["gated"],
                "fidelity": _rounded(found),
                "ceiling": _rounded(found["ceiling"]),
            }
        )
    return {"recognizer": recognizer, "rows": rows}


def _rounded(found: dict[str, Any]) -> dict[str, float | None]:
    return {name: None if found[name] is None else round(found[name], 3) for name in MEASURES}


def label(row: dict[str, Any]) -> str:
    """Whose images, and what was done to them."""
    return f"{briefly(row['weights'])}, {row['size']} px{', as 16 x 16 px' * row['shrunk']}"


def table(result: dict[str, Any]) -> str:
    """A line a run, and the recognizer's own on true scenes."""
    lines = []
    for row in result["rows"]:
        objects, ceiling = row["fidelity"]["psnr_objects"], row["ceiling"]["psnr_objects"]
        shares = [row["overall"], *row["tasks"].values(), row["gated"]]
        decibels = [f"{objects:.2f}", f"{ceiling:.2f}"]
        lines.append([label(row), *(f"{share:.3f}" for share in shares), *decibels])
    judge = result["recognizer"]
    alone = [judge["overall"], *judge["tasks"].values()]
    lines.append(["the recognizer, true scenes", *(f"{share:.3f}" for share in alone), *"---"])
    tasks = [task.replace("_", " ") for task in judge["tasks"]]
    heading = ["images", "overall", *tasks, "gated", "dB of the objects", "ceiling"]
    return markdown(heading, lines)


def plot(result: dict[str, Any]) -> Figure:
    """Right, and right and recognizable, of every run."""
    rows = result["rows"][::-1]
    figure = Figure(figsize=(8, 0.8 + 0.45 * len(rows)), layout="constrained")
    panel = figure.subplots()
    for shift, name, words in ((0.2, "overall", "right"), (-0.2, "gated", "and recognizable")):
        places = [place + shift for place in range(len(rows))]
        panel.barh(places, [row[name] for row in rows], height=0.4, label=words)
    panel.set_yticks(range(len(rows)), [label(row).replace("`", "") for row in rows])
    panel.set(xlabel="share of the images", xlim=(0, 1.02))
    panel.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure

"""What the bundled tokenizer loses: both paths, scenes and photographs, at sizes it never saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, markdown

IMAGES = {"scenes": "held-out scenes", "photographs": "kept photographs"}
PATHS = ("hybrid", "discrete")
SHOWN = {"psnr": ("PSNR", 2), "ssim": ("SSIM", 3)}


def gather(work: Path) -> dict[str, Any]:
    """The means of `WORK/IMAGES-SIZE/results.json`, a row a path; and by which protocol."""
    rows: Rows = []
    shared: dict[str, Any] = {}
    for path in (found for images in IMAGES for found in work.glob(f"{images}-*/results.json")):
        results = json.loads(path.read_text())
        # The protocol says how an image is brought to a size.
        shared = {
            "tokenizer_sha256": results["settings"]["tokenizer_sha256"],
            "protocol": results["protocol"],
        }
        for name in PATHS:
            values = results["paths"][name]
            rows.append(
                {
                    "images": path.parent.name.partition("-")[0],
                    "size": results["settings"]["size"],
                    "path": name,
                    "n": results["n"],
                    **{metric: round(one["value"], 4) for metric, one in values.items()},
                }
            )
    rows.sort(key=lambda row: (list(IMAGES).index(row["images"]), row["size"]))
    return {**shared, "rows": rows}


def _pairs(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """The rows of both paths, by images and size in words."""
    pairs: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in result["rows"]:
        width, height = row["size"]
        pairs.setdefault((row["images"], f"{width} x {height}"), {})[row["path"]] = row
    return pairs


def table(result: dict[str, Any]) -> str:
    """Images and sizes by metrics and paths."""
    headings = [f"{label}, {path}" for label, _ in SHOWN.values() for path in PATHS]
    lines = [
        [
            IMAGES[images],
            size,
            str(rows[PATHS[0]]["n"]),
            *(f"{rows[path][key]:.{d}f}" for key, (_, d) in SHOWN.items() for path in PATHS),
        ]
        for (images, size), rows in _pairs(result).items()
    ]
    return markdown(["", "size", "images", *headings], lines)


def plot(result: dict[str, Any]) -> Figure:
    """A panel for scenes and one for photographs, a pair of bars a size."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, len(IMAGES), sharey=True)
    for panel, images in zip(panels, IMAGES, strict=True):
        found = {size: rows for (name, size), rows in _pairs(result).items() if name == images}
        for shift, path in zip((-0.2, 0.2), PATHS, strict=True):
            heights = [rows[path]["psnr"] for rows in found.values()]
            places = [number + shift for number in range(len(found))]
            panel.bar_label(panel.bar(places, heights, 0.38, label=path), fmt="%.1f", fontsize=8)
        panel.set_xticks(range(len(found)), list(found))
        panel.set(title=IMAGES[images], xlabel="size in pixels")
    panels[0].set_ylabel("PSNR in dB")
    legend = panels[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside right center", frameon=False)
    figure.suptitle("Reconstruction by a tokenizer that was trained at 256 px", fontsize=11)
    return figure

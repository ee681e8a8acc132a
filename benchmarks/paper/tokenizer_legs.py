"""The tokenizer `small_deep` leg by leg: what each gives back of what no training saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, markdown, whose

START = "bundled"
"""What the legs start from: what was bundled before."""
LEGS = {
    START: "{}, the preset `small`, from which it starts",
    "joint-128": "all parts, half of the images on each path, 128 px",
    "joint-256": "the same at 256 px; LPIPS from here on",
    "decoder": "the decoder alone, 0.3 of the images on the discrete path",
    "refine": "half of the next leg",
    "refine-2": "all parts again, 0.3 of the images on the discrete path",
    "refine-3": "all parts; more scenes, squared errors weighing more",
    "refine-4": "the same, to the end of its schedule: release 0.2.0",
}
"""Folders of tokenizer.sh."""
COLUMNS = [
    ("scenes", "hybrid", "psnr", "scenes, hybrid, PSNR", 2),
    ("scenes", "hybrid", "psnr_objects", "of the objects", 2),
    ("scenes", "hybrid", "lpips_alex", "LPIPS (alex)", 3),
    ("scenes", "hybrid", "lpips_vgg", "LPIPS (vgg)", 3),
    ("scenes", "discrete", "psnr", "scenes, discrete, PSNR", 2),
    ("scenes", "discrete", "psnr_objects", "of the objects", 2),
    ("photos", "hybrid", "psnr", "photographs, hybrid, PSNR", 2),
    ("photos", "hybrid", "lpips_alex", "LPIPS (alex)", 3),
]


def gather(work: Path) -> dict[str, Any]:
    """A row a leg that is done: `tokenizer_report.py`'s. With START, earlier legs keep theirs."""
    known = Path(__file__).with_name("tokenizer.json")
    rows = {row["leg"]: row for row in json.loads(known.read_text())["rows"]}
    for name in LEGS:
        if (file := work / "runs" / name / "report.json").exists():
            rows[name] = {"leg": name} | json.loads(file.read_text())
    return {"rows": [rows[name] for name in LEGS if name in rows]}


def table(result: dict[str, Any]) -> str:
    """A line a leg."""
    rows: Rows = result["rows"]
    lines = [
        [
            LEGS[row["leg"]].format(whose(row["sha256"])),
            *(f"{row[kind][path][key]:.{n}f}" for kind, path, key, _, n in COLUMNS),
        ]
        for row in rows
    ]
    return markdown(["after", *(column[3] for column in COLUMNS)], lines)


def plot(result: dict[str, Any]) -> Figure:
    """PSNR and LPIPS of the scenes, leg by leg."""
    rows: Rows = result["rows"]
    names = ["start" if row["leg"] == START else row["leg"] for row in rows]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, key, label in (
        (panels[0], "psnr_objects", "PSNR of the objects in dB"),
        (panels[1], "lpips_alex", "LPIPS (alex)"),
    ):
        for path in ("hybrid", "discrete"):
            panel.plot(names, [row["scenes"][path][key] for row in rows], "o-", label=path)
        panel.set(ylabel=label)
        panel.tick_params(axis="x", rotation=30)
    panels[0].legend(frameon=False)
    figure.suptitle("Held-out scenes, 256 px")
    return figure

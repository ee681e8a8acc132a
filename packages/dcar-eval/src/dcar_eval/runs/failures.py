"""A sheet of the images that were judged wrong, each over its prompt and the reason."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from dcht.images import grid, open_image, save_png

SIDE, TEXT_HEIGHT = 192, 84
LETTERS = 34
"""Characters a line."""
COLUMNS = 6
PER_TASK = 12
"""The first of each task; all of them stand in `images.jsonl`."""


def write_failures(path: Path, rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the sheet for rows of `images.jsonl`; without any there is none.

    Args:
        path: the PNG.
        rows: those that were judged wrong.
        folder: where their files are.
    """
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row["tag"], []).append(row)
    shown = [row for task in by_task.values() for row in task[:PER_TASK]]
    if shown:
        save_png(grid([_panel(row, folder) for row in shown], columns=COLUMNS), path)


def _panel(row: dict[str, Any], folder: Path) -> Image.Image:
    panel = Image.new("RGB", (SIDE, SIDE + TEXT_HEIGHT), "white")
    panel.paste(open_image(folder / row["file"]).resize((SIDE, SIDE)))
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(size=11)
    asked = textwrap.wrap(f"{row['file']}: {row['prompt']}", LETTERS)
    found = [part for line in row["reason"].split("\n") for part in textwrap.wrap(line, LETTERS)]
    draw.multiline_text((2, SIDE + 2), "\n".join(asked), fill="black", font=font, spacing=2)
    below = SIDE + 4 + 14 * len(asked)
    draw.multiline_text((2, below), "\n".join(found), fill="firebrick", font=font, spacing=2)
    return panel

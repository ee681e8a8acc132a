"""What the gate lets pass: true scenes at five levels of blur, and at 16 x 16 pixels.

    python benchmarks/paper/gate.py SPRITES [--num-per-task N]

It concerns the art alone, and says where `dcar_eval.metrics.likeness.RECOGNIZABLE` lies in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from spoil import blurred, shrunk
from tqdm import tqdm

from dcar_eval.metrics.likeness import RECOGNIZABLE
from dcar_eval.runs.results import text_table
from dcar_eval.scenes.fidelity import hold_against, nearest_truth
from dcar_eval.scenes.layout import render_layout
from dcar_eval.scenes.prompts import sample_prompts
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import WORLDS
from dcht.commands.common import OK, positive, run

SIZE = 256
LEVELS = (2, 3, 4, 6, 8)
"""Standard deviations of a blur in pixels of 256."""


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    **{f"blur {level} px": (lambda image, level=level: blurred(image, level)) for level in LEVELS},
    "16 x 16 px": shrunk,
}


def measure_gate(sprites: str | Path, *, num_per_task: int) -> list[list[str]]:
    """Detail and the share that passes, by way: rows of a table.

    Args:
        sprites: folder with the npm packages.
        num_per_task: true scenes of each task, of held-out combinations of the thirty objects.

    Returns:
        Headings, then for each way: its name; mean, least and greatest detail; the share that
        passes.
    """
    objects = tuple(sorted(WORLDS["wide"]))
    art = Sprites(sprites, objects)
    details: dict[str, list[float]] = {way: [] for way in WAYS}
    prompts = sample_prompts(objects, num_per_task=num_per_task, seed=0)
    for prompt in tqdm(prompts, unit="scene", desc="gate", disable=None):
        right = prompt.right(SIZE)
        truth = nearest_truth(render_layout(right, art), right, [right.background], art)
        for way, spoil in WAYS.items():
            details[way].append(hold_against(spoil(truth.pixels), truth, None).detail)
    rows = [["", "detail", "least", "greatest", "pass"]]
    for way, values in details.items():
        found = np.array(values)
        numbers = (found.mean(), found.min(), found.max(), (found >= RECOGNIZABLE).mean())
        rows.append([way, *(f"{number:.2f}" for number in numbers)])
    return rows


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks/paper/gate.py")
    parser.add_argument("sprites", type=Path, help="folder with the npm packages")
    parser.add_argument("--num-per-task", type=positive, default=20)
    words = parser.parse_args()
    print(text_table(measure_gate(words.sprites, num_per_task=words.num_per_task)))
    return OK


if __name__ == "__main__":
    run(main)

"""What a recognizer of hundreds of things learns from, and what it is worth on each alone.

dcar-eval scenes-train --grammar things --sprites node_modules --out RUN
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dcar_eval.hard.grammar import Group, HardScene, HardTask
from dcar_eval.hard.judge import metadata
from dcar_eval.hard.places import sample_layout
from dcar_eval.hard.recognizing import SIDE as SIDE  # both read small objects
from dcar_eval.hard.recognizing import SIZE, Case, judge_true, labeled
from dcar_eval.hard.sample import sample_any
from dcar_eval.scenes.compositions import Composition
from dcar_eval.scenes.layout import render_layout
from dcar_eval.scenes.recognizer import CHECKPOINTS, Recognizer
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.things import same_things
from dcht.tokenizer import Tokenizer

BUNDLED = CHECKPOINTS / "things"
NAMES = tuple(sorted(set(same_things().values())))
"""What it answers with: of names that mean the same, the first."""
NEIGHBORHOOD = 5
SHARES = {HardTask.ONE: 0.7, HardTask.SEVERAL: 0.1, HardTask.FREE: 0.2}
"""It judges things that are alone, and must see where they are not."""


def compose(
    index: int, *, seed: int, classes: list[str], sprites: Sprites, size: int
) -> Composition:
    """A scene of the harder grammar as composition `index`, most often of one thing."""
    rng = np.random.default_rng([seed, index])
    task = list(SHARES)[rng.choice(len(SHARES), p=list(SHARES.values()))]
    layout, _ = sample_layout(
        sample_any(task, tuple(classes), rng), sprites, size, rng, strict=False
    )
    return Composition(render_layout(layout, sprites), labeled(layout, classes, sprites))


def alone(name: str) -> HardScene:
    """A thing, and nothing else."""
    return HardScene(task=HardTask.ONE, groups=(Group(name=name),))


def measure_ceiling(
    recognizer: Recognizer,
    sprites: str | Path,
    *,
    num_per_task: int,
    seed: int,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """Judge true images of each thing alone, as rendered and after a tokenizer.

    Args:
        recognizer: in eval mode.
        sprites: the folder with the npm packages.
        num_per_task: images of each thing.
        seed: of places, sizes and backgrounds.
        tokenizer: what blurs them for the second score.

    Returns:
        `overall`; `things`, the share of each that was judged right; `refused`, the share of the
        same images that were judged wrong by the name of the next thing, as they should be;
        `reconstructed` (`overall`, `things`, `tokenizer_sha256`), and what it was measured on.
    """
    rows = [metadata(alone(name)) for name in NAMES]
    cases = {
        name: [Case(alone(name), row, other)] * num_per_task
        for name, row, other in zip(NAMES, rows, [*rows[1:], rows[0]], strict=True)
    }
    return {
        **judge_true(recognizer, Sprites(sprites, NAMES), cases, "things", seed, tokenizer),
        "num_per_task": num_per_task,
        "size": SIZE,
        "seed": seed,
    }

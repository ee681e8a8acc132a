"""What a recognizer of hundreds of things learns from, and what it is worth on each alone.

dcar-eval scenes-train --grammar things --sprites node_modules --out RUN
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dcar_eval.hard.grammar import Group, HardScene, HardTask
from dcar_eval.hard.judge import judge, metadata
from dcar_eval.hard.places import sample_layout
from dcar_eval.hard.recognizing import SIDE as SIDE  # both read small objects
from dcar_eval.hard.recognizing import labeled, through
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
SIZE = 256
"""Pixels of the scenes on which it is measured."""


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
    art, options = Sprites(sprites, NAMES), recognizer.config.options
    right: dict[str, float] = {}
    blurred: dict[str, float] = {}
    others: list[bool] = []
    for number, name in enumerate(tqdm(NAMES, unit="thing", desc="ceiling", disable=None)):
        row, other = (metadata(alone(n)) for n in (name, NAMES[(number + 1) % len(NAMES)]))
        verdicts: list[tuple[bool, bool]] = []
        for index in range(num_per_task):
            rng = np.random.default_rng([seed, number, index])
            layout, _ = sample_layout(alone(name), art, SIZE, rng, strict=False)
            image = render_layout(layout, art)
            found, worn = recognizer.detect([image, through(tokenizer, image)])
            verdicts.append(
                (judge(row, found, options, SIZE).correct, judge(row, worn, options, SIZE).correct)
            )
            others.append(judge(other, found, options, SIZE).correct)
        right[name], blurred[name] = np.mean(verdicts, axis=0).tolist()
    return {
        "overall": float(np.mean(list(right.values()))),
        "things": right,
        "refused": 1 - float(np.mean(others)),
        "reconstructed": {
            "overall": float(np.mean(list(blurred.values()))),
            "things": blurred,
            "tokenizer_sha256": tokenizer.sha256,
        },
        "num_per_task": num_per_task,
        "size": SIZE,
        "seed": seed,
    }

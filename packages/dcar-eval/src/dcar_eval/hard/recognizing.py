"""What a recognizer of the harder grammar learns from, and what it is worth on the benchmark.

dcar-eval scenes-train --grammar hard --sprites node_modules --out RUN
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dcar_eval.hard.grammar import BENCHMARK, Group, HardScene, HardTask
from dcar_eval.hard.held_out import OBJECTS as OBJECTS  # what the recognizer knows
from dcar_eval.hard.judge import judge
from dcar_eval.hard.places import sample_layout
from dcar_eval.hard.prompts import load
from dcar_eval.hard.sample import WEIGHTS, sample_any
from dcar_eval.scenes.compositions import Composition, Labeled
from dcar_eval.scenes.layout import Layout, box_of, render_layout
from dcar_eval.scenes.recognizer import CHECKPOINTS, Recognizer
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import COLORS
from dcht.images import to_pil, to_tensor
from dcht.tokenizer import Tokenizer

BUNDLED = CHECKPOINTS / "hard"
SIDE, NEIGHBORHOOD = 160, 3
"""Objects are smaller and nearer to each other than in standard scenes."""
EMA_DECAY = 0.98
"""It begins with the weights of the one that reads standard scenes, and soon forgets them."""
SIZE = 256
"""Pixels of the scenes on which it is measured."""


def compose(
    index: int, *, seed: int, classes: list[str], sprites: Sprites, size: int
) -> Composition:
    """A scene of the harder grammar, of either split, as composition `index`.

    Places, sizes, shades and textures are the grammar's; which combinations are held out is nothing
    to a recognizer, which must know them all.
    """
    rng = np.random.default_rng([seed, index])
    task = list(WEIGHTS)[rng.choice(len(WEIGHTS), p=list(WEIGHTS.values()))]
    scene = sample_any(task, tuple(classes), rng)
    layout, _ = sample_layout(scene, sprites, size, rng, strict=False)
    return Composition(render_layout(layout, sprites), labeled(layout, classes, sprites))


def labeled(layout: Layout, classes: list[str], sprites: Sprites) -> list[Labeled]:
    """The truth of a layout."""
    colors = list(COLORS)
    return [
        Labeled(
            classes.index(thing.name),
            colors.index(thing.color) if thing.color else -1,
            tuple(np.clip(np.array(box_of(thing, sprites)) / layout.size, 0, 1).tolist()),
        )
        for thing in layout.objects
    ]


def measure_ceiling(
    recognizer: Recognizer,
    sprites: str | Path,
    *,
    num_per_task: int,
    seed: int,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """Judge true images of the benchmark's own prompts, as rendered and after a tokenizer.

    Args:
        recognizer: in eval mode.
        sprites: the folder with the npm packages.
        num_per_task: images of each task, of unseen prompts.
        seed: of places, sizes, shades and backgrounds.
        tokenizer: what blurs them for the second score.

    Returns:
        `overall`, `tasks`, `refused` (the share that the next prompt was refused, as it should be),
        `reconstructed` (`overall`, `tasks`, `tokenizer_sha256`), and what it was measured on.
    """
    cases: dict[str, list[Case]] = {}
    for task in BENCHMARK:
        rows = [r for r in load()["prompts"] if r["tag"] == task.value and not r["seen"]]
        pairs = [(rows[k % len(rows)], rows[(k + 1) % len(rows)]) for k in range(num_per_task)]
        cases[task.value] = [Case(scene_of(row), row, other) for row, other in pairs]
    return {
        **judge_true(recognizer, Sprites(sprites, OBJECTS), cases, "tasks", seed, tokenizer),
        "num_per_task": num_per_task,
        "size": SIZE,
        "seed": seed,
    }


class Case(NamedTuple):
    """What is drawn, how it is judged, and by what it should be refused."""

    scene: HardScene
    row: dict[str, Any]
    other: dict[str, Any]


def judge_true(
    recognizer: Recognizer,
    sprites: Sprites,
    cases: dict[str, list[Case]],
    kind: str,
    seed: int,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """Draw the cases of each name and judge them, as rendered and after a tokenizer.

    Returns:
        `overall`, `refused`, `reconstructed`; under `kind` the share of each name that is right.
    """
    right: dict[str, float] = {}
    blurred: dict[str, float] = {}
    others: list[bool] = []
    options = recognizer.config.options
    for number, name in enumerate(tqdm(cases, unit=kind, desc="ceiling", disable=None)):
        verdicts: list[tuple[bool, bool]] = []
        for index, (scene, row, other) in enumerate(cases[name]):
            rng = np.random.default_rng([seed, number, index])
            layout, _ = sample_layout(scene, sprites, SIZE, rng, strict=False)
            image = render_layout(layout, sprites)
            found, worn = recognizer.detect([image, _pass(tokenizer, image)])
            verdicts.append(
                (judge(row, found, options, SIZE).correct, judge(row, worn, options, SIZE).correct)
            )
            others.append(judge(other, found, options, SIZE).correct)
        right[name], blurred[name] = np.mean(verdicts, axis=0).tolist()
    return {
        "overall": float(np.mean(list(right.values()))),
        kind: right,
        "refused": 1 - float(np.mean(others)),
        "reconstructed": {
            "overall": float(np.mean(list(blurred.values()))),
            kind: blurred,
            "tokenizer_sha256": tokenizer.sha256,
        },
    }


def scene_of(row: dict[str, Any]) -> HardScene:
    """The scene that a row of `judge.metadata` asks for."""
    clauses: dict[str, dict[str, Any]] = {}
    for clause in row["include"]:
        clauses.setdefault(clause["class"], clause)
    names = list(clauses)
    groups = tuple(
        Group(name=name, count=c["count"], color=c.get("color"), size=c.get("size"))
        for name, c in clauses.items()
    )
    relations = tuple(
        (
            names.index(clause["class"]),
            clause["position"][0],
            names.index(row["include"][clause["position"][1]]["class"]),
        )
        for clause in row["include"]
        if "position" in clause
    )
    return HardScene(task=HardTask(row["tag"]), groups=groups, relations=relations)


@torch.inference_mode()
def _pass(tokenizer: Tokenizer, image: Image.Image) -> Image.Image:
    return to_pil(tokenizer.reconstruct(to_tensor(image)[None])[0])

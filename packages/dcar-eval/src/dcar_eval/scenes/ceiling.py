"""What the recognizer itself is worth, on scenes whose truth is exact.

A model's score in the scenes benchmark cannot mean more than this one: every image here is
correct, so what is judged wrong is the recognizer's own fault.

    python -m dcar_eval.commands.ceiling SPRITES --tokenizer CKPT

measures the bundled recognizer again, as scenes are now, or through another tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dcar_eval.geneval import Detection, evaluate_detections
from dcar_eval.scenes.dataset import Settings, make_example
from dcar_eval.scenes.recognizer import Recognizer
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import BENCHMARK, WORLDS, Split
from dcht.images import to_pil, to_tensor
from dcht.tokenizer import Tokenizer

SIZE = 256
BACKGROUNDS = "photographic"
"""All there are."""


def measure_ceiling(
    recognizer: Recognizer,
    sprites: str | Path,
    *,
    num_per_task: int,
    seed: int,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """Score the recognizer on fresh scenes of held-out combinations, three ways.

    Args:
        recognizer: in eval mode.
        sprites: the folder with the npm packages.
        num_per_task: scenes of each task.
        seed: of the scenes.
        tokenizer: what blurs them for the second score.

    Returns:
        `overall` and `tasks`: of all classes, as rendered; `refused`: the share of the same
        images that were judged wrong by the prompt of the next scene, as they should be;
        `reconstructed`: `overall`, `tasks` and `tokenizer_sha256`, of the objects `wide` on
        plain backgrounds (what the bundled tokenizer knows) after the tokenizer; and what all of
        it was measured on.
    """
    classes = tuple(recognizer.config.classes)
    art = Sprites(sprites, classes)
    tasks, refused = _score(
        recognizer, art, classes, backgrounds=BACKGROUNDS, num_per_task=num_per_task, seed=seed
    )
    blurred, _ = _score(
        recognizer,
        art,
        WORLDS["wide"],
        backgrounds="plain",
        num_per_task=num_per_task,
        seed=seed,
        change=lambda image: _pass(tokenizer, image),
    )
    return {
        "overall": _mean(tasks),
        "tasks": tasks,
        "refused": refused,
        "reconstructed": {
            "overall": _mean(blurred),
            "tasks": blurred,
            "objects": "wide",
            "backgrounds": "plain",
            "tokenizer_sha256": tokenizer.sha256,
        },
        "num_per_task": num_per_task,
        "split": Split.HELD_OUT.value,
        "backgrounds": BACKGROUNDS,
        "size": SIZE,
        "seed": seed,
    }


def _score(
    recognizer: Recognizer,
    sprites: Sprites,
    objects: tuple[str, ...],
    *,
    backgrounds: str,
    num_per_task: int,
    seed: int,
    change: Callable[[Image.Image], Image.Image] | None = None,
) -> tuple[dict[str, float], float]:
    """The share judged correct by task, and the share that another prompt was refused."""
    settings = Settings(
        objects=objects, size=SIZE, seed=seed, split=Split.HELD_OUT.value, webdataset=False,
        backgrounds=backgrounds,
    )  # fmt: skip
    options, shares, others = recognizer.config.options, {}, []
    for task in tqdm(BENCHMARK, unit="task", desc="ceiling", disable=None):
        truths: list[dict[str, Any]] = []
        found: list[list[Detection]] = []
        for index in range(num_per_task):
            example = make_example(index, settings, sprites, task)
            image = example.image if change is None else change(example.image)
            truths.append(example.truth)
            found += recognizer.detect([image])
        pairs = zip(truths, found, strict=True)
        shares[task.value] = float(
            np.mean([evaluate_detections(truth, seen, options).correct for truth, seen in pairs])
        )
        others += [
            evaluate_detections(other, seen, options).correct
            for truth, other, seen in zip(truths, truths[1:], found, strict=False)
            if truth["prompt"] != other["prompt"]
        ]
    return shares, 1 - float(np.mean(others))


@torch.inference_mode()
def _pass(tokenizer: Tokenizer, image: Image.Image) -> Image.Image:
    return to_pil(tokenizer.reconstruct(to_tensor(image)[None])[0])


def _mean(tasks: dict[str, float]) -> float:
    return float(np.mean(list(tasks.values())))

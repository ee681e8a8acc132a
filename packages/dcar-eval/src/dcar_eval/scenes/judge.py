"""Judging images: is there what was asked for, and how like is it to the truth?

With the artwork the true scene is rendered, and the image measured beside it; without, likeness is
estimated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from dcar_eval.geneval import Detection, Options, evaluate_detections
from dcar_eval.scenes.estimator import Estimator
from dcar_eval.scenes.fidelity import (
    Fidelity,
    hold_against,
    mean_fidelity,
    nearest_truth,
    through,
)
from dcar_eval.scenes.prompts import Prompt
from dcar_eval.scenes.recognizer import Recognizer
from dcar_eval.scenes.sprites import Sprites
from dcht.errors import UsageError
from dcht.images import open_image
from dcht.perceptual import load_lpips
from dcht.tokenizer import Tokenizer

LPIPS_NET = "alex"
SIDES = 32
"""Images that are held against true scenes have sides that are multiples of it."""


@dataclass(frozen=True, kw_only=True)
class Art:
    """What true scenes are rendered from, and what images are held against them with."""

    sprites: Sprites
    tokenizer: Tokenizer
    """Whose reconstructions of the true scenes are the ceiling."""
    lpips: nn.Module | None = None
    """Images (b, 3, H, W) in [-1, 1], twice, to (b,)."""

    @classmethod
    def load(
        cls,
        sprites: str | Path,
        objects: tuple[str, ...],
        tokenizer: Tokenizer,
        lpips_weights: str | None = None,
    ) -> Art:
        """Find the sprites of objects; LPIPS is left out where there are no weights.

        Raises:
            UsageError: sprites or named weights are missing.
        """
        found = Sprites(sprites, objects)
        try:
            return cls(
                sprites=found, tokenizer=tokenizer, lpips=load_lpips(LPIPS_NET, lpips_weights)
            )
        except UsageError:
            if lpips_weights is not None:
                raise
            return cls(sprites=found, tokenizer=tokenizer)


@dataclass
class Judged:
    """All images of a run: a row for each, and how like they are to the truth."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    beside_truth: list[Fidelity] = field(default_factory=list)
    ceilings: list[Fidelity] = field(default_factory=list)
    """Empty where likeness was estimated."""

    def fidelity(self) -> dict[str, Any]:
        """`psnr`, `psnr_objects`, `ssim`, `lpips`, `ceiling`, `estimated`: means over images."""
        return {
            **mean_fidelity(self.beside_truth),
            "ceiling": mean_fidelity(self.ceilings) if self.ceilings else None,
            "estimated": not self.ceilings,
        }

    def share(self, verdict: str, tag: str) -> float:
        """Of the images of a task, those with this verdict."""
        return float(np.mean([row[verdict] for row in self.rows if row["tag"] == tag]))

    def mean(self, verdict: str, tags: Iterable[str]) -> float:
        """The mean of the shares of some tasks."""
        return float(np.mean([self.share(verdict, tag) for tag in tags]))

    def distinct(self, tag: str) -> int:
        """How many different prompts a task has."""
        return len({row["prompt"] for row in self.rows if row["tag"] == tag})


def judge(
    recognizer: Recognizer,
    files: Sequence[Path],
    prompts: Sequence[Prompt],
    ruler: Art | Estimator,
) -> Judged:
    """Judge each image by its prompt.

    A row has GenEval's verdict on what the recognizer sees (`correct`, `reason`, `details`),
    `fidelity` (with art measured beside the truth, else estimated) and `gated`: correct and
    recognizable.
    """
    judged = Judged()
    pairs = zip(files, prompts, strict=True)
    for file, prompt in tqdm(pairs, total=len(files), unit="img", desc="judge", disable=None):
        image = open_image(file)
        (found,) = recognizer.detect([image])
        verdict = evaluate_detections(prompt.metadata, found, recognizer.config.options)
        row = {
            "file": file.name,
            "tag": prompt.metadata["tag"],
            "prompt": prompt.metadata["prompt"],
            "correct": verdict.correct,
            "reason": verdict.reason,
            "details": verdict.details,
        }
        if isinstance(ruler, Art):
            right = found if verdict.correct else None
            beside, ceiling = _beside_truth(image, prompt, ruler, right)
            judged.ceilings.append(ceiling)
        else:
            beside = estimate(ruler, image, found, recognizer.config.options)
        judged.beside_truth.append(beside)
        row |= {"gated": verdict.correct and beside.recognizable, "fidelity": asdict(beside)}
        judged.rows.append(row | {"metadata": prompt.metadata})
    return judged


def estimate(
    estimator: Estimator, image: Image.Image, found: Sequence[Detection], options: Options
) -> Fidelity:
    """The fidelity of the objects that were found for certain, without a truth."""
    certain = [detection for detection in found if detection.score >= options.threshold]
    guess = estimator.estimate(image, certain)
    return Fidelity(
        psnr=None, psnr_objects=float(guess.psnr), ssim=None, lpips=None, detail=float(guess.detail)
    )


@torch.inference_mode()
def _beside_truth(
    image: Image.Image, prompt: Prompt, art: Art, found: Sequence[Detection] | None
) -> tuple[Fidelity, Fidelity]:
    """An image beside its truth, and that truth after the tokenizer beside itself."""
    right = prompt.right(image.width)
    truth = nearest_truth(image, right, prompt.backgrounds, art.sprites, found)
    return (
        hold_against(image, truth, art.lpips),
        hold_against(through(art.tokenizer, truth), truth, art.lpips),
    )

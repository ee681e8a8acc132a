"""A generator while it trains: sample sheets, and measurements that other packages provide.

A package registers a function under a name in the entry-point group `dcar.evaluations`;
`evaluations=[NAME]` has it called every `evaluate_every` steps, with the averaged weights, on rank
0 while the others wait. dcar itself knows none: dcar-eval brings `scenes`.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image

from dcar.data import Data
from dcar.pipeline import TextToImage
from dcht.errors import UsageError
from dcht.images import grid, to_pil

GROUP = "dcar.evaluations"


class Evaluation(Protocol):
    """Measures the images of a generator.

    It may also have a method `require_applicable(pipe)`, which raises where there is nothing that
    it could measure: a run asks before its first step.
    """

    def __call__(self, pipe: TextToImage, *, seed: int, out: Path) -> Mapping[str, float]:
        """Draw what is needed and return numbers for the log.

        Args:
            pipe: the generator with its averaged weights, on the run's device. It is not to be
                changed, and shares its weights with the run.
            seed: the run's. The same noise every time makes the numbers of a run comparable.
            out: a folder of this step's own, not there yet, for whatever else is worth keeping.
        """
        ...


def load_evaluations(names: Sequence[str]) -> dict[str, Evaluation]:
    """The evaluations of these names.

    Raises:
        UsageError: a name that no installed package provides.
    """
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if unknown := [name for name in names if name not in known]:
        there = ", ".join(sorted(known)) or "none (dcar-eval brings some)"
        raise UsageError(f"evaluations: {unknown[0]!r} is not installed; there is {there}")
    found = {}
    for name in names:
        try:
            found[name] = known[name].load()
        except Exception as error:
            raise UsageError(f"evaluations: {name!r} cannot be loaded: {error}") from None
    return found


def require_applicable(evaluations: Mapping[str, Evaluation], pipe: TextToImage) -> None:
    """Ask each evaluation that can say so whether it applies to this generator.

    Raises:
        UsageError: one does not; the message has its reason.
    """
    for name, evaluation in evaluations.items():
        ask = getattr(evaluation, "require_applicable", None)
        try:
            if ask is not None:
                ask(pipe)
        except Exception as error:
            raise UsageError(f"evaluations: {name!r} does not apply: {error}") from None


def measure(evaluation: Evaluation, pipe: TextToImage, *, seed: int, out: Path) -> dict[str, float]:
    """What an evaluation says, as finite numbers; what an earlier try left in `out` is removed.

    Raises:
        ValueError: it says something else.
        Exception: whatever the evaluation raises.
    """
    shutil.rmtree(out, ignore_errors=True)
    measured = {key: float(value) for key, value in evaluation(pipe, seed=seed, out=out).items()}
    if broken := [key for key, value in measured.items() if not math.isfinite(value)]:
        raise ValueError(f"{broken[0]} is {measured[broken[0]]}")
    return measured


def generate_samples(pipe: TextToImage, prompts: Sequence[str], *, seed: int) -> Image.Image:
    """A contact sheet of prompts, at least one, each above its image; always the same noise."""
    images = pipe(prompts, seed=seed).images
    return grid(images, columns=math.ceil(math.sqrt(len(images))), labels=prompts)


@torch.inference_mode()
def compare_reconstructions(pipe: TextToImage, data: Data, *, count: int, seed: int) -> Image.Image:
    """The first `count` training images in a row, and below each what its caption generates."""
    part = data.parts[0]
    rows = part.rows[:count]
    images = data.read(rows)
    latents = pipe.tokenizer.lookup(images.indices.to(pipe.device))
    pixels = pipe.tokenizer.decode(latents + images.residual.to(pipe.device))
    factor = pipe.tokenizer.config.downsampling
    captions = [data.captions[row][0] for row in rows]
    generated = pipe(
        captions,
        height=part.grid[0] * factor,
        width=part.grid[1] * factor,
        seed=seed,
    )
    return grid([*map(to_pil, pixels), *generated.images], columns=len(rows), labels=captions)

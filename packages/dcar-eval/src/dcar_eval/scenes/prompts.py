"""What the benchmark asks for: held-out scenes as rows of GenEval's file, and as images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dcar.pipeline import TextToImage
from dcar_eval.scenes.backgrounds import names_of
from dcar_eval.scenes.captions import captions, plural
from dcar_eval.scenes.dataset import geneval_metadata
from dcar_eval.scenes.grid import arrange, on_grid
from dcar_eval.scenes.layout import Layout
from dcar_eval.scenes.sample import sample_scene
from dcar_eval.scenes.world import BENCHMARK, SPRITE_LABELS, WORLDS, Scene, Split, Task
from dcht.errors import UsageError

BACKGROUNDS = tuple(names_of("plain"))
"""What a caption of the standard benchmark leaves open."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt, how an image of it is judged, and what is right."""

    metadata: dict[str, Any]
    """A row of GenEval's prompt file."""
    right: Callable[[int], Layout]
    """A right image of so many pixels a side."""
    backgrounds: tuple[str, ...]
    """What may stand behind its objects just as well."""


def known_objects(pipe: TextToImage) -> tuple[str, ...]:
    """The objects that a checkpoint was trained on, as far as its words tell.

    An object is known if every word of its name is, in the singular and in the plural ("orange"
    is a color too; "oranges" are not). Where the thirty of `wide` are among them, they are these
    alone: the same prompts, whatever else a checkpoint knows.

    Raises:
        UsageError: the text encoder reads any text, or knows fewer than two objects.
    """
    words = pipe.text.known_words()
    if words is None:
        raise UsageError(
            "this checkpoint's text encoder knows every word, so its objects cannot be told from "
            "it; name them (--objects all, or names by commas)"
        )
    known = set(words)
    found = tuple(sorted(n for n in SPRITE_LABELS if {*n.split(), *plural(n).split()} <= known))
    if len(found) < 2:
        raise UsageError(
            f"this checkpoint was not trained on scenes: of their 62 objects it knows {len(found)}"
        )
    wide = WORLDS["wide"]
    return wide if set(wide) <= set(found) else found


def sample_prompts(
    objects: tuple[str, ...], *, num_per_task: int, seed: int, split: Split = Split.HELD_OUT
) -> list[Prompt]:
    """The standard benchmark, task after task: held-out combinations of these objects.

    Prompt k of a task is a function of (seed, task, k) and the objects. There are few held-out
    counts: where a combination comes again, the image has other noise.
    """
    prompts = []
    for number, task in enumerate(BENCHMARK):
        for index in range(num_per_task):
            rng = np.random.default_rng([seed, number, index])
            scene = sample_scene(objects, split, rng, task)
            prompts.append(
                Prompt(
                    metadata=geneval_metadata(scene, captions(scene)[0]),
                    right=partial(_right, scene),
                    backgrounds=BACKGROUNDS,
                )
            )
    return prompts


def sample_captions(
    objects: tuple[str, ...], num: int, *, seed: int, split: Split, task: Task | None = None
) -> list[str]:
    """Captions of scenes that nobody renders, for a model that draws what it knows by itself.

    Caption k depends on (seed, k), and so do which of its wordings it is and what it is about.
    """
    found = []
    for number in range(num):
        rng = np.random.default_rng([seed, number])
        wordings = captions(sample_scene(objects, split, rng, task))
        found.append(wordings[int(rng.integers(len(wordings)))])
    return found


def _right(scene: Scene, size: int) -> Layout:
    return on_grid(scene, arrange(scene), BACKGROUNDS[0], size)

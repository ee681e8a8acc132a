"""An image of the harder grammar with its captions and its truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dcar_eval.hard.captions import captions
from dcar_eval.hard.grammar import HardScene, HardTask
from dcar_eval.hard.judge import metadata
from dcar_eval.hard.places import NoRoomError, sample_layout
from dcar_eval.hard.sample import sample_hard_scene
from dcar_eval.scenes.dataset import Example, Settings
from dcar_eval.scenes.layout import box_of, render_layout
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import PLAIN, Split

GRAMMAR = 1
"""Told apart from the standard grammar's images of the same seed."""
SCENES = 200
"""Scenes that are tried for one image: arranged, a third show a held-out relation."""


def make_hard_example(index: int, settings: Settings, sprites: Sprites) -> Example:
    """Image `index` of the data set."""
    split = Split(settings.split)
    rng = np.random.default_rng([settings.seed, index, list(Split).index(split), GRAMMAR])
    task = None if settings.task is None else HardTask(settings.task)
    tried = 0
    while True:
        scene = sample_hard_scene(settings.objects, split, rng, task, settings.styles)
        if not all(sprites.has(group.name, scene.style) for group in scene.groups):
            scene = replace(scene, style=PLAIN)
        try:
            return example_of(scene, settings, sprites, rng)
        except NoRoomError:  # of free places one of 150,000 did not fit
            tried += 1
            if tried == SCENES:
                raise


def example_of(
    scene: HardScene, settings: Settings, sprites: Sprites, rng: np.random.Generator
) -> Example:
    """A scene in an image, by lot."""
    strict = settings.split == Split.TRAIN.value
    layout, groups = sample_layout(
        scene, sprites, settings.size, rng, strict=strict, arranged=settings.arranged
    )
    objects = [
        {
            "class": thing.name,
            "colour": thing.color,
            "size": scene.groups[number].size,
            "box": list(box_of(thing, sprites)),
        }
        for thing, number in zip(layout.objects, groups, strict=True)
    ]
    truth = metadata(scene) | {
        "split": settings.split,
        "style": scene.style,
        "background": layout.background,
        "objects": objects,
    }
    return Example(layout, render_layout(layout, sprites), captions(scene), truth)

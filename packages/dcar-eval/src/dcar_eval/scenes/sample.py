"""Sampling a scene: what is in it, by lot.

A scene is a function of the random generator, the objects and the split alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

import numpy as np

from dcar_eval.scenes.held_out import is_held_out, is_kept_from_training
from dcar_eval.scenes.things import PEOPLE, same_things
from dcar_eval.scenes.world import (
    COLORS,
    COUNTS,
    GATHERINGS,
    RELATIONS,
    TASK_WEIGHTS,
    Scene,
    SceneObject,
    Split,
    Task,
)
from dcht.errors import UsageError


def sample_scene(
    objects: tuple[str, ...],
    split: Split,
    rng: np.random.Generator,
    task: Task | None = None,
) -> Scene:
    """Draw a scene of the split.

    Args:
        objects: the world's.
        split: which side of `held_out` the scene must be on.
        rng: what decides.
        task: None: one by `TASK_WEIGHTS`.

    Raises:
        UsageError: among these objects no such scene is in the split.
    """
    if task is None:
        task = list(TASK_WEIGHTS)[rng.choice(len(TASK_WEIGHTS), p=list(TASK_WEIGHTS.values()))]
    for _ in range(10_000):
        scene = _sample(task, objects, rng)
        colored = {thing.name for thing in scene.objects if thing.color}
        if colored.intersection(PEOPLE) or _called_twice(scene):
            continue
        if task is Task.SINGLE:
            return scene
        if split is Split.TRAIN and not is_kept_from_training(scene, objects):
            return scene
        if split is Split.HELD_OUT and is_held_out(scene, objects):
            return scene
    raise UsageError(f"among {', '.join(objects)} no {task.value} combination is {split.value}")


def _called_twice(scene: Scene) -> bool:
    """Whether two names in it mean the same thing."""
    names = {thing.name for thing in scene.objects}
    return len({same_things()[name] for name in names}) < len(names)


def _sample(task: Task, objects: tuple[str, ...], rng: np.random.Generator) -> Scene:
    first, second = (str(name) for name in rng.choice(objects, 2, replace=False))
    colors = [str(name) for name in rng.choice(list(COLORS), 2, replace=False)]
    if task is Task.SINGLE:
        return Scene(task=task, objects=(SceneObject(name=first),))
    if task is Task.COLORS:
        return Scene(task=task, objects=(SceneObject(name=first, color=colors[0]),))
    if task is Task.COUNTING:
        return Scene(task=task, objects=(SceneObject(name=first),) * int(rng.choice(COUNTS)))
    if task is Task.FREE:
        return _free_form(first, second, colors, objects, rng)
    if task is Task.GATHERING:
        return _gathering(objects, rng)
    if task is Task.ATTRIBUTION:
        pair = zip((first, second), colors, strict=True)
        return Scene(task=task, objects=tuple(SceneObject(name=n, color=c) for n, c in pair))
    both = (SceneObject(name=first), SceneObject(name=second))
    if task is Task.TWO:
        return Scene(task=task, objects=both)
    if task is Task.POSITION:
        return Scene(task=task, objects=both, relation=str(rng.choice(RELATIONS)))
    assert_never(task)


def _free_form(
    first: str, second: str, colors: list[str], objects: tuple[str, ...], rng: np.random.Generator
) -> Scene:
    """Several of one color; a pair in colors and places; or, mostly, a gathering."""
    kind = rng.random()
    if kind < 0.2:
        several = (SceneObject(name=first, color=colors[0]),) * int(rng.choice(COUNTS))
        return Scene(task=Task.FREE, objects=several)
    if kind < 0.45 or len(objects) < max(GATHERINGS):
        return _placed_and_colored(first, second, colors, rng)
    return replace(_gathering(objects, rng), task=Task.FREE)


def _gathering(objects: tuple[str, ...], rng: np.random.Generator) -> Scene:
    """Three or four different objects, most in a color.

    Raises:
        UsageError: the world has fewer.
    """
    if len(objects) < max(GATHERINGS):
        raise UsageError(f"{max(GATHERINGS)} objects gather, not {len(objects)}; add some")
    names = rng.choice(objects, int(rng.choice(GATHERINGS)), replace=False)
    coats = [str(rng.choice(list(COLORS))) if rng.random() < 0.8 else None for _ in names]
    things = (SceneObject(name=str(n), color=c) for n, c in zip(names, coats, strict=True))
    return Scene(task=Task.GATHERING, objects=tuple(things))


def _placed_and_colored(
    first: str, second: str, colors: list[str], rng: np.random.Generator
) -> Scene:
    """Two objects, the first, the second or both in a color, mostly in a relation."""
    which = int(rng.integers(3))
    a = SceneObject(name=first, color=colors[0] if which != 1 else None)
    b = SceneObject(name=second, color=colors[1] if which != 0 else None)
    # Both colored and nowhere in particular is attribution; so it has a place here.
    relation = str(rng.choice(RELATIONS)) if which == 2 or rng.random() < 0.7 else None
    return Scene(task=Task.FREE, objects=(a, b), relation=relation)

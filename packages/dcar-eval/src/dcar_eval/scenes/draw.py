"""Drawing a scene: what is in it, by lot.

A scene is a function of the random generator, the objects and the split alone.
"""

from __future__ import annotations

import numpy as np

from dcar_eval.scenes.held_out import is_held_out
from dcar_eval.scenes.world import (
    COLOURS,
    COUNTS,
    NEVER_COLOURED,
    RELATIONS,
    TASK_WEIGHTS,
    WHOLE,
    WINDOWS,
    Cells,
    Scene,
    SceneObject,
    Split,
    Task,
    fits,
)
from dcht.errors import UsageError


def draw_scene(
    objects: tuple[str, ...],
    split: Split,
    rng: np.random.Generator,
    task: Task | None = None,
    *,
    cells: Cells = WHOLE,
) -> Scene:
    """Draw a scene of the split.

    Args:
        objects: the world's.
        split: which side of `held_out` the scene must be on.
        rng: what decides.
        task: None: one by `TASK_WEIGHTS`, of those that a picture of so many cells can show.
        cells: columns and rows of the picture; the scene fits.

    Raises:
        UsageError: among these objects no such scene is in the split.
    """
    if task is None:
        tasks = list(WINDOWS.get(cells, TASK_WEIGHTS))
        shares = np.array([TASK_WEIGHTS[each] for each in tasks])
        task = tasks[rng.choice(len(tasks), p=shares / shares.sum())]
    for _ in range(10_000):
        scene = _draw(task, objects, rng)
        coloured = {thing.name for thing in scene.objects if thing.colour}
        if coloured.intersection(NEVER_COLOURED) or not fits(scene, cells):
            continue
        if task is Task.SINGLE or is_held_out(scene, objects) == (split is Split.HELD_OUT):
            return scene
    raise UsageError(f"among {', '.join(objects)} no {task.value} combination is {split.value}")


def _draw(task: Task, objects: tuple[str, ...], rng: np.random.Generator) -> Scene:
    first, second = (str(name) for name in rng.choice(objects, 2, replace=False))
    colours = [str(name) for name in rng.choice(list(COLOURS), 2, replace=False)]
    if task is Task.SINGLE:
        return Scene(task=task, objects=(SceneObject(name=first),))
    if task is Task.COLORS:
        return Scene(task=task, objects=(SceneObject(name=first, colour=colours[0]),))
    if task is Task.COUNTING:
        return Scene(task=task, objects=(SceneObject(name=first),) * int(rng.choice(COUNTS)))
    if task is Task.FREE and rng.random() < 0.4:
        several = (SceneObject(name=first, colour=colours[0]),) * int(rng.choice(COUNTS))
        return Scene(task=task, objects=several)
    if task is Task.FREE:
        return _placed_and_coloured(first, second, colours, rng)
    if task is Task.ATTRIBUTION:
        pair = zip((first, second), colours, strict=True)
        return Scene(task=task, objects=tuple(SceneObject(name=n, colour=c) for n, c in pair))
    relation = str(rng.choice(RELATIONS)) if task is Task.POSITION else None
    both = (SceneObject(name=first), SceneObject(name=second))
    return Scene(task=task, objects=both, relation=relation)


def _placed_and_coloured(
    first: str, second: str, colours: list[str], rng: np.random.Generator
) -> Scene:
    """Two objects, the first, the second or both in a colour, mostly in a relation."""
    which = int(rng.integers(3))
    a = SceneObject(name=first, colour=colours[0] if which != 1 else None)
    b = SceneObject(name=second, colour=colours[1] if which != 0 else None)
    # Both coloured and nowhere in particular is attribution; so it has a place here.
    relation = str(rng.choice(RELATIONS)) if which == 2 or rng.random() < 0.7 else None
    return Scene(task=Task.FREE, objects=(a, b), relation=relation)

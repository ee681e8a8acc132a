"""Sampling a scene of the harder grammar: what is in it, by lot.

A scene is a function of the random generator, the objects, the split and the styles alone.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np

from dcar_eval.hard.grammar import MOST, SIZES, Group, HardScene, HardTask, Relation
from dcar_eval.hard.held_out import combinations_of, held_out
from dcar_eval.scenes.things import PEOPLE, same_things
from dcar_eval.scenes.world import COLORS, PLAIN, RELATIONS, Split
from dcht.errors import UsageError

TRIES = 20_000
WEIGHTS = {
    HardTask.ONE: 0.16,
    HardTask.SEVERAL: 0.1,
    HardTask.GROUPS: 0.13,
    HardTask.COLORED_GROUPS: 0.14,
    HardTask.FOUR_COLORS: 0.14,
    HardTask.SIZES: 0.1,
    HardTask.RELATIONS: 0.13,
    HardTask.FREE: 0.1,
}
"""Shares of a training set."""


def sample_hard_scene(
    objects: tuple[str, ...],
    split: Split,
    rng: np.random.Generator,
    task: HardTask | None = None,
    styles: tuple[str, ...] = (PLAIN,),
) -> HardScene:
    """Draw a scene of the split.

    Args:
        objects: the world's.
        split: whether it shows a combination that is held out, or none.
        rng: what decides.
        task: None: one by `WEIGHTS`.
        styles: of which one is sampled.

    Raises:
        UsageError: there are too few objects, or among them no such scene is in the split.
    """
    if len(set(map(same_things().__getitem__, objects))) < 4:
        raise UsageError(f"the harder grammar needs 4 different objects, not {len(objects)}")
    if task is None:
        task = list(WEIGHTS)[rng.choice(len(WEIGHTS), p=list(WEIGHTS.values()))]
    style = str(rng.choice(styles))
    kept = held_out()
    for _ in range(TRIES):
        scene = sample_any(task, objects, rng, style)
        if kept.isdisjoint(combinations_of(scene)) == (split is Split.TRAIN):
            return scene
    raise UsageError(f"among {', '.join(objects)} no {task.value} combination is {split.value}")


def sample_any(
    task: HardTask, objects: tuple[str, ...], rng: np.random.Generator, style: str = PLAIN
) -> HardScene:
    """A scene of a task, of either split."""
    while True:
        groups, relations = _sampled(task, objects, rng)
        things = {same_things()[group.name] for group in groups}
        painted = any(group.color and group.name in PEOPLE for group in groups)
        if len(things) == len(groups) and not painted:
            return HardScene(task=task, groups=groups, relations=relations, style=style)


def _sampled(
    task: HardTask, objects: tuple[str, ...], rng: np.random.Generator
) -> tuple[tuple[Group, ...], tuple[Relation, ...]]:
    names = [str(name) for name in rng.choice(objects, 4, replace=False)]
    colors = [str(color) for color in rng.choice(list(COLORS), 4, replace=False)]
    sizes = [str(size) for size in rng.permutation(SIZES)]
    if task is HardTask.ONE:
        color, size = _maybe(rng, 0.6, colors[0]), _maybe(rng, 0.5, sizes[0])
        return (Group(name=names[0], color=color, size=size),), ()
    if task is HardTask.SEVERAL:
        count = int(rng.integers(2, MOST + 1))
        return (Group(name=names[0], count=count, color=_maybe(rng, 0.3, colors[0])),), ()
    if task in (HardTask.GROUPS, HardTask.COLORED_GROUPS):
        first, second = _two_counts(rng)
        coats = colors if task is HardTask.COLORED_GROUPS else [None, None]
        return (
            Group(name=names[0], count=first, color=coats[0]),
            Group(name=names[1], count=second, color=coats[1]),
        ), ()
    if task is HardTask.FOUR_COLORS:
        both = zip(names, colors, strict=True)
        return tuple(Group(name=name, color=color) for name, color in both), ()
    if task is HardTask.SIZES:
        both = zip(names[:2], sizes, strict=True)
        return tuple(Group(name=name, size=size) for name, size in both), ()
    if task is HardTask.RELATIONS:
        first, second = (str(relation) for relation in rng.choice(RELATIONS, 2, replace=False))
        of_one = (0, first, 1), (0, second, 2)
        to_one = (0, first, 1), (2, second, 1)
        groups = tuple(Group(name=name) for name in names[:3])
        return groups, of_one if rng.random() < 0.5 else to_one
    if task is HardTask.FREE:
        return _free_form(names, colors, sizes, rng)
    assert_never(task)


def _free_form(
    names: list[str], colors: list[str], sizes: list[str], rng: np.random.Generator
) -> tuple[tuple[Group, ...], tuple[Relation, ...]]:
    kinds = int(rng.integers(1, 5))
    groups: list[Group] = []
    for number, name in enumerate(names[:kinds]):
        room = MOST - sum(group.count for group in groups) - (kinds - number - 1)
        count = int(rng.integers(1, min(room, 4) + 1)) if rng.random() < 0.4 else 1
        sized = number < 2 and kinds < 3 and count < 3
        groups.append(
            Group(
                name=name,
                count=count,
                color=_maybe(rng, 0.6, colors[number]),
                size=_maybe(rng, 0.3, sizes[number]) if sized else None,
            )
        )
    if kinds == 2 and groups[0].count == groups[1].count == 1 and rng.random() < 0.6:
        return tuple(groups), ((0, str(rng.choice(RELATIONS)), 1),)
    return tuple(groups), ()


def _two_counts(rng: np.random.Generator) -> tuple[int, int]:
    """Three to six in all; ones are among them."""
    total = int(rng.integers(3, MOST + 1))
    first = int(rng.integers(1, total))
    return first, total - first


def _maybe(rng: np.random.Generator, share: float, value: str) -> str | None:
    return value if rng.random() < share else None

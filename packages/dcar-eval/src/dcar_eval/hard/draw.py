"""Drawing a scene of the harder grammar: what is in it, by lot.

A scene is a function of the random generator, the objects, the split and the styles alone.
"""

from __future__ import annotations

import numpy as np

from dcar_eval.hard.grammar import MOST, SIZES, Group, HardScene, HardTask, Relation
from dcar_eval.hard.held_out import combinations_of, held_out
from dcar_eval.scenes.things import PEOPLE, same_things
from dcar_eval.scenes.world import COLOURS, PLAIN, RELATIONS, Split
from dcht.errors import UsageError

TRIES = 20_000
WEIGHTS = {
    HardTask.ONE: 0.16,
    HardTask.SEVERAL: 0.1,
    HardTask.GROUPS: 0.13,
    HardTask.COLOURED_GROUPS: 0.14,
    HardTask.FOUR_COLOURS: 0.14,
    HardTask.SIZES: 0.1,
    HardTask.RELATIONS: 0.13,
    HardTask.FREE: 0.1,
}
"""Shares of a training set."""


def draw_hard_scene(
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
        styles: of which one is drawn.

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
        scene = draw_any(task, objects, rng, style)
        if kept.isdisjoint(combinations_of(scene)) == (split is Split.TRAIN):
            return scene
    raise UsageError(f"among {', '.join(objects)} no {task.value} combination is {split.value}")


def draw_any(
    task: HardTask, objects: tuple[str, ...], rng: np.random.Generator, style: str = PLAIN
) -> HardScene:
    """A scene of a task, of either split."""
    while True:
        groups, relations = _drawn(task, objects, rng)
        things = {same_things()[group.name] for group in groups}
        painted = any(group.colour and group.name in PEOPLE for group in groups)
        if len(things) == len(groups) and not painted:
            return HardScene(task=task, groups=groups, relations=relations, style=style)


def _drawn(
    task: HardTask, objects: tuple[str, ...], rng: np.random.Generator
) -> tuple[tuple[Group, ...], tuple[Relation, ...]]:
    names = [str(name) for name in rng.choice(objects, 4, replace=False)]
    colours = [str(colour) for colour in rng.choice(list(COLOURS), 4, replace=False)]
    sizes = [str(size) for size in rng.permutation(SIZES)]
    if task is HardTask.ONE:
        colour, size = _maybe(rng, 0.6, colours[0]), _maybe(rng, 0.5, sizes[0])
        return (Group(name=names[0], colour=colour, size=size),), ()
    if task is HardTask.SEVERAL:
        count = int(rng.integers(2, MOST + 1))
        return (Group(name=names[0], count=count, colour=_maybe(rng, 0.3, colours[0])),), ()
    if task in (HardTask.GROUPS, HardTask.COLOURED_GROUPS):
        first, second = _two_counts(rng)
        coats = colours if task is HardTask.COLOURED_GROUPS else [None, None]
        return (
            Group(name=names[0], count=first, colour=coats[0]),
            Group(name=names[1], count=second, colour=coats[1]),
        ), ()
    if task is HardTask.FOUR_COLOURS:
        both = zip(names, colours, strict=True)
        return tuple(Group(name=name, colour=colour) for name, colour in both), ()
    if task is HardTask.SIZES:
        both = zip(names[:2], sizes, strict=True)
        return tuple(Group(name=name, size=size) for name, size in both), ()
    if task is HardTask.RELATIONS:
        first, second = (str(relation) for relation in rng.choice(RELATIONS, 2, replace=False))
        of_one = (0, first, 1), (0, second, 2)
        to_one = (0, first, 1), (2, second, 1)
        groups = tuple(Group(name=name) for name in names[:3])
        return groups, of_one if rng.random() < 0.5 else to_one
    return _free_form(names, colours, sizes, rng)


def _free_form(
    names: list[str], colours: list[str], sizes: list[str], rng: np.random.Generator
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
                colour=_maybe(rng, 0.6, colours[number]),
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

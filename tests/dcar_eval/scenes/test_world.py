"""What is held out, evenly, and that everything else still occurs in training."""

import hashlib
import json
from collections.abc import Iterator
from itertools import combinations, permutations, product

import numpy as np
import pytest

from dcar_eval.scenes.held_out import HELD_OUT_SHARE, combinations_of, held_out, is_held_out
from dcar_eval.scenes.sample import sample_scene
from dcar_eval.scenes.things import parse_objects
from dcar_eval.scenes.world import (
    BENCHMARK,
    COLORS,
    COUNTS,
    GATHERINGS,
    NEVER_COLORED,
    RELATIONS,
    SPRITE_LABELS,
    TASK_WEIGHTS,
    WORLDS,
    Scene,
    SceneObject,
    Split,
    Task,
)
from dcht.errors import UsageError

ALL = tuple(SPRITE_LABELS)


STARTER_PAIRS = [
    ("apple", "cat"), ("banana", "elephant"), ("bird", "dog"),
    ("boat", "chair"), ("book", "car"), ("bus", "umbrella"),
]  # fmt: skip
ALL_DIGEST = "55d9cde87292241e7bd086ce755161c9e8e192836841f35fa4323b9f79aa07d4"


def colored(name: str, color: str) -> Scene:
    return Scene(task=Task.COLORS, objects=(SceneObject(name=name, color=color),))


def counted(name: str, count: int) -> Scene:
    return Scene(task=Task.COUNTING, objects=(SceneObject(name=name),) * count)


def pair(first: str, second: str, relation: str | None = None) -> Scene:
    task = Task.TWO if relation is None else Task.POSITION
    both = (SceneObject(name=first), SceneObject(name=second))
    return Scene(task=task, objects=both, relation=relation)


def scenes(split: Split, number: int, objects: tuple[str, ...] = ALL) -> Iterator[Scene]:
    for index in range(number):
        yield sample_scene(objects, split, np.random.default_rng([7, index]))


def kinds(world: str) -> dict[str, list[Scene]]:
    """Every combination of a world that may be held out, by kind."""
    names = WORLDS[world]
    colored_names = [name for name in names if name not in NEVER_COLORED]
    return {
        "colour": [colored(name, color) for name, color in product(colored_names, COLORS)],
        "count": [counted(name, count) for name in names for count in COUNTS],
        "pair": [pair(first, second) for first, second in combinations(names, 2)],
    }


@pytest.mark.parametrize("kind", ["colour", "count", "pair"])
@pytest.mark.parametrize("world", WORLDS)
def test_about_a_tenth_is_held_out(world: str, kind: str) -> None:
    share = np.mean([is_held_out(scene, WORLDS[world]) for scene in kinds(world)[kind]])
    assert share == pytest.approx(HELD_OUT_SHARE, abs=0.025)


@pytest.mark.parametrize("world", WORLDS)
def test_relations_hold_out_a_tenth_of_the_pairs_that_are_not(world: str) -> None:
    names = WORLDS[world]
    seen = [both for both in permutations(names, 2) if not is_held_out(pair(*both), names)]
    held = [is_held_out(pair(a, b, relation), names) for a, b in seen for relation in RELATIONS]
    assert np.mean(held) == pytest.approx(HELD_OUT_SHARE, abs=0.02)


@pytest.mark.parametrize("world", WORLDS)
def test_no_object_is_spared_and_none_is_stripped(world: str) -> None:
    """Every object loses its share of pairs, and no color or count goes without."""
    names = WORLDS[world]
    by_kind = kinds(world)
    pairs = [s for s in by_kind["pair"] if is_held_out(s, names)]
    lost = [sum(name in {t.name for t in s.objects} for s in pairs) for name in names]
    assert max(lost) <= np.ceil((len(names) - 1) * HELD_OUT_SHARE)
    assert min(lost) >= max(1, max(lost) - 2)
    colors = [s.objects[0].color for s in by_kind["colour"] if is_held_out(s, names)]
    counts = [len(s.objects) for s in by_kind["count"] if is_held_out(s, names)]
    assert set(colors) == set(COLORS)
    assert set(counts) == set(COUNTS)
    placed = [c[1] for c in held_out(names) if len(c) == 3]
    assert placed.count("left of") == pytest.approx(placed.count("above"), rel=0.2)


def test_the_split_never_moves() -> None:
    """Published checkpoints were trained on this split: another one would leak its test."""
    starter = held_out(WORLDS["starter"])
    pairs = [c for c in sorted(starter) if len(c) == 2 and c[0] in WORLDS["starter"]]
    assert pairs == STARTER_PAIRS
    digest = hashlib.sha256(json.dumps(sorted(held_out(ALL))).encode()).hexdigest()
    assert digest == ALL_DIGEST


@pytest.mark.parametrize(("color", "name"), [("red", "apple"), ("blue", "car")])
@pytest.mark.parametrize("world", WORLDS)
def test_the_readme_prompts_are_never_held_out(world: str, color: str, name: str) -> None:
    assert not is_held_out(colored(name, color), WORLDS[world])


@pytest.mark.parametrize("world", WORLDS)
def test_every_class_color_count_and_relation_is_trained(world: str) -> None:
    names = WORLDS[world]

    def seen(scenes: Iterator[Scene]) -> bool:
        return not all(is_held_out(scene, names) for scene in scenes)

    for name in names:
        assert seen(colored(name, color) for color in COLORS)
        assert seen(counted(name, count) for count in COUNTS)
        others = [other for other in names if other != name]
        assert seen(pair(name, other) for other in others)
        for relation in RELATIONS:
            assert seen(pair(name, other, relation) for other in others)
    for color in COLORS:
        assert seen(colored(name, color) for name in names)
    for count in COUNTS:
        assert seen(counted(name, count) for name in names)


def test_one_arrangement_in_other_words_is_one_combination() -> None:
    for a, b in permutations(WORLDS["starter"], 2):
        assert set(combinations_of(pair(a, b))) == set(combinations_of(pair(b, a)))
        for relation, opposite in (("left of", "right of"), ("above", "below")):
            there, back = pair(a, b, relation), pair(b, a, opposite)
            assert set(combinations_of(there)) == set(combinations_of(back))


def test_a_held_out_part_holds_out_the_whole() -> None:
    """Neither beside something else, nor as a place, nor in colors."""
    names = WORLDS["starter"]
    kept = held_out(names)
    mark, thing = next(c for c in sorted(kept) if c[0].startswith("in "))
    other = next(name for name in names if name != thing)
    both = (SceneObject(name=other), SceneObject(name=thing, color=mark.removeprefix("in ")))
    assert is_held_out(Scene(task=Task.FREE, objects=both), names)
    a, b = next(c for c in sorted(kept) if set(c) <= set(names) and len(c) == 2)
    assert all(is_held_out(pair(a, b, relation), names) for relation in RELATIONS)
    third = next(name for name in names if name not in (a, b))
    three = (SceneObject(name=a), SceneObject(name=third), SceneObject(name=b))
    assert is_held_out(Scene(task=Task.FREE, objects=three), names)
    number, name = next(c for c in sorted(kept) if c[0].isdecimal())
    several = (SceneObject(name=name, color="red"),) * int(number)
    assert is_held_out(Scene(task=Task.FREE, objects=several), names)


def test_an_orange_is_not_the_color() -> None:
    held = [c for c in held_out(ALL) if len(c) == 2 and c[0].startswith("in ")]
    assert sum(name == "orange" for _, name in held) == 1


def test_training_never_sees_what_is_held_out() -> None:
    assert not any(is_held_out(scene, ALL) for scene in scenes(Split.TRAIN, 500))
    for scene in scenes(Split.HELD_OUT, 500):
        assert is_held_out(scene, ALL) or scene.task is Task.SINGLE


@pytest.mark.parametrize("task", [*BENCHMARK, Task.GATHERING])
def test_a_task_can_be_asked_for(task: Task) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene = sample_scene(WORLDS["starter"], Split.HELD_OUT, rng, task)
        assert scene.task is task
        assert task is Task.SINGLE or is_held_out(scene, WORLDS["starter"])
        if task is Task.GATHERING:
            assert len({thing.name for thing in scene.objects}) == len(scene.objects) >= 3


def test_tasks_come_by_their_weights() -> None:
    drawn = [scene.task for scene in scenes(Split.TRAIN, 2000)]
    for task, weight in TASK_WEIGHTS.items():
        assert drawn.count(task) / len(drawn) == pytest.approx(weight, abs=0.04)
    assert sum(TASK_WEIGHTS.values()) == pytest.approx(1)


def test_a_scene_has_what_its_task_asks_for() -> None:
    free = []
    for scene in scenes(Split.TRAIN, 600):
        names = [thing.name for thing in scene.objects]
        colors = [thing.color for thing in scene.objects]
        assert not any(t.color and t.name in NEVER_COLORED for t in scene.objects)
        if scene.task is Task.FREE:
            free.append(scene)
            continue
        wants_color = scene.task in (Task.COLORS, Task.ATTRIBUTION)
        assert all((color is not None) == wants_color for color in colors)
        assert (scene.relation is not None) == (scene.task is Task.POSITION)
        if scene.task is Task.COUNTING:
            assert len(set(names)) == 1
            assert len(names) in COUNTS
        else:
            pairs = (Task.TWO, Task.POSITION, Task.ATTRIBUTION)
            assert len(set(names)) == len(names) == (2 if scene.task in pairs else 1)
        if scene.task is Task.ATTRIBUTION:
            assert colors[0] != colors[1]
    # Free forms are what no task is: colored counts, and colors with a place or without.
    assert all(any(t.color for t in s.objects) for s in free if len(set(s.objects)) <= 2)
    assert any(len(set(scene.objects)) == 1 for scene in free)
    assert any(scene.relation and scene.objects[0].color for scene in free)
    assert any(scene.relation is None and not scene.objects[1].color for scene in free)
    gatherings = [scene for scene in free if len({t.name for t in scene.objects}) > 2]
    assert {len(scene.objects) for scene in gatherings} == set(GATHERINGS)


def test_objects_are_named_or_are_a_world() -> None:
    assert parse_objects("dog, apple,dog") == ("apple", "dog")
    assert set(parse_objects("starter")) == set(WORLDS["starter"])
    assert len(parse_objects("all")) == 62
    assert set(WORLDS["starter"]) > {"apple", "car", "dog", "cat"}
    with pytest.raises(
        UsageError, match="'fridge' is not known; use starter or wide or all or things"
    ):
        parse_objects("apple,fridge")
    with pytest.raises(UsageError, match="two different ones are needed"):
        parse_objects("apple,apple")


def test_a_world_without_such_combinations_says_so() -> None:
    """Of two objects there is one pair, and here it is one that training sees."""
    with pytest.raises(UsageError, match=r"among apple, dog no .* combination is held-out"):
        for _ in scenes(Split.HELD_OUT, 100, ("apple", "dog")):
            pass

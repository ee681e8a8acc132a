"""What is held out, and that everything else still occurs in training."""

from collections.abc import Iterator
from itertools import combinations, permutations, product

import numpy as np
import pytest

from dcar_eval.scenes.world import (
    COLOURS,
    COUNTS,
    HELD_OUT_SHARE,
    NEVER_COLOURED,
    RELATIONS,
    SPRITE_LABELS,
    TASK_WEIGHTS,
    WORLDS,
    Scene,
    SceneObject,
    Split,
    Task,
    draw_scene,
    is_held_out,
    parse_objects,
)
from dcht.errors import UsageError

ALL = tuple(SPRITE_LABELS)


def coloured(name: str, colour: str) -> Scene:
    return Scene(task=Task.COLORS, objects=(SceneObject(name=name, colour=colour),))


def counted(name: str, count: int) -> Scene:
    return Scene(task=Task.COUNTING, objects=(SceneObject(name=name),) * count)


def pair(first: str, second: str, relation: str | None = None) -> Scene:
    task = Task.TWO if relation is None else Task.POSITION
    both = (SceneObject(name=first), SceneObject(name=second))
    return Scene(task=task, objects=both, relation=relation)


def scenes(split: Split, number: int, objects: tuple[str, ...] = ALL) -> Iterator[Scene]:
    for index in range(number):
        yield draw_scene(objects, split, np.random.default_rng([7, index]))


@pytest.mark.parametrize(
    "possible",
    [
        [coloured(name, colour) for name, colour in product(ALL, COLOURS)],
        [counted(name, count) for name, count in product(ALL, COUNTS)],
        [pair(*names) for names in combinations(ALL, 2)],
    ],
    ids=["colour", "count", "pair"],
)
def test_about_a_tenth_is_held_out(possible: list[Scene]) -> None:
    share = np.mean([is_held_out(scene) for scene in possible])
    assert share == pytest.approx(HELD_OUT_SHARE, abs=0.025)


def test_relations_hold_out_a_tenth_of_the_pairs_that_are_not() -> None:
    seen = [names for names in permutations(ALL, 2) if not is_held_out(pair(*names))]
    held = [is_held_out(pair(a, b, relation)) for a, b in seen for relation in RELATIONS]
    assert np.mean(held) == pytest.approx(HELD_OUT_SHARE, abs=0.01)


def test_the_split_never_moves() -> None:
    """Published checkpoints were trained on this split: another hash would leak its test."""
    assert is_held_out(coloured("car", "pink"))
    assert is_held_out(counted("banana", 4))
    assert is_held_out(pair("dog", "car"))
    assert is_held_out(pair("dog", "apple", "above"))
    assert not is_held_out(coloured("dog", "blue"))
    assert not is_held_out(pair("apple", "dog", "above"))


@pytest.mark.parametrize(("colour", "name"), [("red", "apple"), ("blue", "car")])
def test_the_readme_prompts_are_never_held_out(colour: str, name: str) -> None:
    assert not is_held_out(coloured(name, colour))


@pytest.mark.parametrize("world", WORLDS)
def test_every_class_colour_count_and_relation_is_trained(world: str) -> None:
    names = WORLDS[world]
    for name in names:
        assert not all(is_held_out(coloured(name, colour)) for colour in COLOURS)
        assert not all(is_held_out(counted(name, count)) for count in COUNTS)
        others = [other for other in names if other != name]
        assert not all(is_held_out(pair(name, other)) for other in others)
        for relation in RELATIONS:
            assert not all(is_held_out(pair(name, other, relation)) for other in others)
    for colour in COLOURS:
        assert not all(is_held_out(coloured(name, colour)) for name in names)
    for count in COUNTS:
        assert not all(is_held_out(counted(name, count)) for name in names)


def test_one_arrangement_in_other_words_is_one_combination() -> None:
    for a, b in permutations(WORLDS["starter"], 2):
        assert is_held_out(pair(a, b)) == is_held_out(pair(b, a))
        assert is_held_out(pair(a, b, "left of")) == is_held_out(pair(b, a, "right of"))
        assert is_held_out(pair(a, b, "above")) == is_held_out(pair(b, a, "below"))


def test_a_held_out_part_holds_out_the_whole() -> None:
    """(pink, car) must not slip into training beside something else, nor (car, dog) as a place."""
    both = (SceneObject(name="boat", colour="blue"), SceneObject(name="car", colour="pink"))
    assert is_held_out(Scene(task=Task.ATTRIBUTION, objects=both))
    assert all(is_held_out(pair("car", "dog", relation)) for relation in RELATIONS)


def test_training_never_sees_what_is_held_out() -> None:
    assert not any(is_held_out(scene) for scene in scenes(Split.TRAIN, 500))
    for scene in scenes(Split.HELD_OUT, 500):
        assert is_held_out(scene) or scene.task is Task.SINGLE


def test_tasks_come_by_their_weights() -> None:
    drawn = [scene.task for scene in scenes(Split.TRAIN, 2000)]
    for task, weight in TASK_WEIGHTS.items():
        assert drawn.count(task) / len(drawn) == pytest.approx(weight, abs=0.04)
    assert sum(TASK_WEIGHTS.values()) == pytest.approx(1)


def test_a_scene_has_what_its_task_asks_for() -> None:
    for scene in scenes(Split.TRAIN, 500):
        names = [thing.name for thing in scene.objects]
        colours = [thing.colour for thing in scene.objects]
        wants_colour = scene.task in (Task.COLORS, Task.ATTRIBUTION)
        assert all((colour is not None) == wants_colour for colour in colours)
        assert (scene.relation is not None) == (scene.task is Task.POSITION)
        if scene.task is Task.COUNTING:
            assert len(set(names)) == 1
            assert len(names) in COUNTS
        else:
            pairs = (Task.TWO, Task.POSITION, Task.ATTRIBUTION)
            assert len(set(names)) == len(names) == (2 if scene.task in pairs else 1)
        assert not wants_colour or not set(names) & set(NEVER_COLOURED)
        if scene.task is Task.ATTRIBUTION:
            assert colours[0] != colours[1]


def test_objects_are_named_or_are_a_world() -> None:
    assert parse_objects("dog, apple,dog") == ("apple", "dog")
    assert set(parse_objects("starter")) == set(WORLDS["starter"])
    assert len(parse_objects("all")) == 62
    assert set(WORLDS["starter"]) > {"apple", "car", "dog", "cat"}
    with pytest.raises(UsageError, match="'fridge' is not known; use starter or all"):
        parse_objects("apple,fridge")
    with pytest.raises(UsageError, match="two different ones are needed"):
        parse_objects("apple,apple")


def test_a_world_without_such_combinations_says_so() -> None:
    """Of two objects there is one pair, and here it is one that training sees."""
    with pytest.raises(UsageError, match=r"among apple, dog no .* combination is held-out"):
        for _ in scenes(Split.HELD_OUT, 100, ("apple", "dog")):
            pass

"""The benchmark's combinations: which they are, and that no training set shows one."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest

from dcar_eval.hard.grammar import Group, HardScene, HardTask
from dcar_eval.hard.held_out import OBJECTS, by_kind, combinations_of, held_out, kind_of
from dcar_eval.hard.sample import WEIGHTS, sample_hard_scene
from dcar_eval.scenes import held_out as standard
from dcar_eval.scenes.sample import sample_scene
from dcar_eval.scenes.things import parse_objects
from dcar_eval.scenes.world import STYLES, WORLDS, Split, Task

DIGEST = "4b29582ce17e10b800e4fc57cb99790a83640a369fb0bc95de618857b5801794"


def scene_of(*groups: Group, relations: tuple[tuple[int, str, int], ...] = ()) -> HardScene:
    return HardScene(task=HardTask.FREE, groups=groups, relations=relations)


def test_the_split_never_moves() -> None:
    digest = hashlib.sha256(json.dumps(sorted(held_out())).encode()).hexdigest()
    assert digest == DIGEST


def test_it_is_the_standard_one_and_more_of_the_same() -> None:
    """So a set of standard scenes of the thirty gives nothing of the harder benchmark away."""
    assert standard.held_out(WORLDS["wide"]) < held_out()
    more = held_out() - standard.held_out(WORLDS["wide"])
    assert Counter(kind_of(combination) for combination in more) == {"count": 6, "size": 6}
    assert {first for first, _ in more} == {"5", "6", "small", "large"}


def test_no_word_is_spared_and_none_is_stripped() -> None:
    kinds = by_kind()
    assert {kind: len(found) for kind, found in kinds.items()} == {
        "colour": 30, "count": 15, "size": 6, "pair": 45, "relation": 149,
    }  # fmt: skip
    assert {c for found in kinds.values() for c in found} == held_out()
    assert set(Counter(first for first, _ in kinds["size"]).values()) == {3}
    assert set(Counter(first for first, _ in kinds["colour"]).values()) <= {2, 3, 4}
    for kind in ("size", "count"):
        most = Counter(name for _, name in kinds[kind]).most_common(1)[0][1]
        assert most <= {"size": 1, "count": 2}[kind]


def test_what_a_scene_combines() -> None:
    scene = scene_of(
        Group(name="car", count=2, color="red"), Group(name="apple", size="large"),
        relations=((0, "right of", 1),),
    )  # fmt: skip
    assert set(combinations_of(scene)) == {
        ("in red", "car"), ("2", "car"), ("large", "apple"), ("apple", "car"),
        ("apple", "left of", "car"),
    }  # fmt: skip


def test_what_two_relations_say_together_counts_too() -> None:
    """A cat below a bus and above a dog: the bus is above the dog."""
    groups = Group(name="cat"), Group(name="bus"), Group(name="dog")
    both = scene_of(*groups, relations=((0, "below", 1), (0, "above", 2)))
    assert ("bus", "above", "dog") in set(combinations_of(both))
    across = scene_of(*groups, relations=((0, "below", 1), (0, "left of", 2)))
    assert {c for c in combinations_of(across) if len(c) == 3} == {
        ("bus", "above", "cat"), ("cat", "left of", "dog"),
    }  # fmt: skip


def test_another_name_is_no_way_round() -> None:
    mark, name = next(c for c in by_kind()["colour"] if c[1] in ("bicycle", "airplane", "donut"))
    other = {"bicycle": "bike", "airplane": "plane", "donut": "doughnut"}[name]
    scene = scene_of(Group(name=other, color=mark.removeprefix("in ")))
    assert (mark, name) in set(combinations_of(scene))


@pytest.mark.parametrize("task", [None, *WEIGHTS])
@pytest.mark.parametrize("world", ["wide", "all", "things"])
def test_no_training_set_of_the_harder_grammar_shows_one(world: str, task: HardTask | None) -> None:
    objects = parse_objects(world)
    for index in range(400):
        rng = np.random.default_rng([1, index])
        scene = sample_hard_scene(objects, Split.TRAIN, rng, task, STYLES)
        assert held_out().isdisjoint(combinations_of(scene))


@pytest.mark.parametrize("task", [None, *Task])
@pytest.mark.parametrize("world", ["wide", "all"])
def test_no_training_set_of_the_standard_grammar_shows_one(world: str, task: Task | None) -> None:
    objects = parse_objects(world)
    for index in range(400):
        scene = sample_scene(objects, Split.TRAIN, np.random.default_rng([2, index]), task)
        assert held_out().isdisjoint(standard.combinations_of(scene))


@pytest.mark.parametrize("task", WEIGHTS)
def test_a_held_out_scene_shows_one(task: HardTask) -> None:
    for index in range(30):
        rng = np.random.default_rng([3, index])
        scene = sample_hard_scene(OBJECTS, Split.HELD_OUT, rng, task)
        assert not held_out().isdisjoint(combinations_of(scene))
        assert scene.task is task

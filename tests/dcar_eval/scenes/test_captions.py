"""The grammar, by table, and that a paraphrase never says something else."""

import numpy as np
import pytest

from dcar_eval.scenes.captions import captions, plural, with_article
from dcar_eval.scenes.sample import sample_scene
from dcar_eval.scenes.world import (
    COLORS,
    SPRITE_LABELS,
    Scene,
    SceneObject,
    Split,
    Task,
)


@pytest.mark.parametrize(
    ("name", "several"),
    [
        ("apple", "apples"), ("bus", "buses"), ("wine glass", "wine glasses"),
        ("couch", "couches"), ("sandwich", "sandwiches"), ("toothbrush", "toothbrushes"),
        ("knife", "knives"), ("sheep", "sheep"), ("person", "people"), ("skis", "skis"),
        ("computer mouse", "computer mice"), ("scissors", "scissors"), ("tv", "tvs"),
        ("giraffe", "giraffes"), ("potted plant", "potted plants"), ("broccoli", "broccoli"),
    ],
)  # fmt: skip
def test_plurals(name: str, several: str) -> None:
    assert plural(name) == several


@pytest.mark.parametrize(
    ("name", "color", "text"),
    [
        ("apple", None, "an apple"), ("apple", "red", "a red apple"), ("bus", None, "a bus"),
        ("dog", "orange", "an orange dog"), ("umbrella", None, "an umbrella"),
        ("orange", "orange", "an orange orange"), ("scissors", None, "scissors"),
        ("skis", "blue", "blue skis"), ("hot dog", None, "a hot dog"),
    ],
)  # fmt: skip
def test_articles(name: str, color: str | None, text: str) -> None:
    assert with_article(SceneObject(name=name, color=color)) == text


def scene(task: Task, *things: tuple[str, str | None], relation: str | None = None) -> Scene:
    objects = tuple(SceneObject(name=name, color=color) for name, color in things)
    return Scene(task=task, objects=objects, relation=relation)


@pytest.mark.parametrize(
    ("asked", "wording", "another"),
    [
        (scene(Task.SINGLE, ("cat", None)), "a photo of a cat", "a cat"),
        (
            scene(Task.COLORS, ("apple", "red")),
            "a photo of a red apple",
            "an apple that is red",
        ),
        (
            scene(Task.COUNTING, *[("banana", None)] * 3),
            "a photo of three bananas",
            "a banana, a banana and a banana",
        ),
        (
            scene(Task.TWO, ("car", None), ("elephant", None)),
            "a photo of a car and an elephant",
            "a car with an elephant",
        ),
        (
            scene(Task.POSITION, ("car", None), ("dog", None), relation="left of"),
            "a photo of a car left of a dog",
            "a dog right of a car",
        ),
        (
            scene(Task.POSITION, ("car", None), ("dog", None), relation="below"),
            "a photo of a car below a dog",
            "car at the bottom, dog at the top",
        ),
        (
            scene(Task.ATTRIBUTION, ("car", "blue"), ("apple", "red")),
            "a photo of a blue car and a red apple",
            "blue car, red apple",
        ),
        (
            scene(Task.FREE, *[("apple", "red")] * 2),
            "a photo of two red apples",
            "a red apple and a red apple",
        ),
        (
            scene(Task.FREE, ("car", "blue"), ("dog", None), relation="left of"),
            "a photo of a blue car left of a dog",
            "blue car on the left, dog on the right",
        ),
        (
            scene(Task.FREE, ("car", None), ("dog", "white"), relation="above"),
            "a photo of a car above a white dog",
            "a white dog under a car",
        ),
        (
            scene(Task.FREE, ("skis", "green"), ("bus", None)),
            "a photo of green skis and a bus",
            "green skis together with a bus",
        ),
        (
            scene(Task.FREE, ("cat", None), ("cup", "red"), ("kite", None), ("bus", "blue")),
            "a photo of a cat, a red cup, a kite and a blue bus",
            "cat, red cup, kite, blue bus",
        ),
    ],
)
def test_wordings(asked: Scene, wording: str, another: str) -> None:
    texts = captions(asked)
    assert texts[0] == wording
    assert another in texts
    assert len(texts) == len(set(texts)) >= 4


def test_every_wording_names_everything_and_nothing_else() -> None:
    for index in range(400):
        asked = sample_scene(tuple(SPRITE_LABELS), Split.TRAIN, np.random.default_rng(index))
        wanted = {thing.color for thing in asked.objects if thing.color}
        # Longest first: "hot dog" holds "dog", "carrot" holds "car".
        names = sorted({thing.name for thing in asked.objects}, key=len, reverse=True)
        for text in captions(asked):
            for name in names:
                assert name in text or plural(name) in text
                text = text.replace(plural(name), "").replace(name, "")
            assert {word for word in text.replace(",", " ").split() if word in COLORS} <= wanted


def test_objects_without_a_relation_keep_their_order() -> None:
    """Their places follow from it."""
    things = (("dog", None), ("car", "blue"), ("kite", None))
    for text in captions(scene(Task.FREE, *things)):
        places = [text.index(name) for name, _ in things]
        assert places == sorted(places)

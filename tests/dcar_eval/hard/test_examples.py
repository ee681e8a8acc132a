"""Pictures of the harder grammar: what they promise is in their pixels and their truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcar_eval.geneval import Detection, Options, relations
from dcar_eval.hard import draw, places
from dcar_eval.hard.draw import draw_hard_scene
from dcar_eval.hard.examples import make_hard_example
from dcar_eval.hard.judge import judge
from dcar_eval.hard.places import HIDDEN, SIDES, SIZE_SIDES, SPREAD, THRESHOLDS, draw_picture_of
from dcar_eval.scenes.dataset import Settings
from dcar_eval.scenes.held_out import placed
from dcar_eval.scenes.picture import draw_picture, sprite_of
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import COLOURS, Split

SETTINGS = Settings(
    objects=("apple", "banana", "car", "dog"), size=128, seed=3, split="train", webdataset=False,
    grammar="hard",
)  # fmt: skip
NUMBER = 60


@pytest.fixture
def sprites(npm_folder: Path) -> Sprites:
    return Sprites(npm_folder, SETTINGS.objects)


def test_the_truth_passes_the_benchmark_rules(sprites: Sprites) -> None:
    tags = set()
    for index in range(NUMBER):
        truth = make_hard_example(index, SETTINGS, sprites).truth
        found = [
            Detection(
                class_name=thing["class"], score=1, box=tuple(thing["box"]), color=thing["colour"]
            )
            for thing in truth["objects"]
        ]
        verdict = judge(truth, found, Options(), SETTINGS.size)
        assert verdict.correct, verdict.reason
        tags.add(truth["tag"])
    assert len(tags) == 8


def test_a_quarter_is_hidden_at_most(sprites: Sprites) -> None:
    """By the pixels of what is drawn later, at full size; and something is hidden somewhere."""
    hidden = []
    for index in range(NUMBER):
        picture = make_hard_example(index, SETTINGS, sprites).picture
        masks = []
        for thing in picture.objects:
            mask = np.zeros((picture.size, picture.size), dtype=bool)
            opaque = np.asarray(sprite_of(thing, sprites).getchannel("A")) > 127
            mask[thing.y : thing.y + thing.side, thing.x : thing.x + thing.side] = opaque
            masks.append(mask)
        for k, mask in enumerate(masks):
            later = np.any([np.zeros_like(mask), *masks[k + 1 :]], axis=0)
            hidden.append((mask & later).sum() / mask.sum())
    assert 0.15 < max(hidden) <= HIDDEN + 0.04  # the raster is coarser than the picture


def test_sides_and_shades_are_any_in_their_range(sprites: Sprites) -> None:
    sides: list[float] = []
    for index in range(NUMBER):
        example = make_hard_example(index, SETTINGS, sprites)
        picture = example.picture
        for thing, truth in zip(picture.objects, example.truth["objects"], strict=True):
            low, high = SIZE_SIDES.get(truth["size"], SIDES[min(len(picture.objects), 5)])
            left, top, right, bottom = truth["box"]
            longer = max(right - left, bottom - top) / picture.size
            assert low - 0.015 <= longer <= high + 0.015
            assert 0 <= thing.x <= picture.size - thing.side
            assert 0 <= thing.y <= picture.size - thing.side
            sides.append(longer)
            assert (thing.shade is None) == (thing.colour is None)
            if thing.shade is not None and thing.colour is not None:
                assert np.abs(np.subtract(thing.shade, COLOURS[thing.colour])).max() <= SPREAD
    assert len(set(sides)) > 20


def test_a_shade_keeps_to_its_own_colour() -> None:
    """Two colours are further apart than two shades can come to each other."""
    anchors = np.array(list(COLOURS.values()))
    distances = np.abs(anchors[:, None] - anchors[None]).max(-1) + 1000 * np.eye(len(anchors))
    assert distances.min() > 2 * SPREAD


def test_training_shows_no_held_out_relation_even_unsaid(
    sprites: Sprites, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of these four none is held out; so one that is often seen is."""
    kept = ("apple", "left of", "car")

    def shown() -> int:
        pictures = [make_hard_example(index, SETTINGS, sprites).truth for index in range(100)]
        pairs = [(a, b) for truth in pictures for a in truth["objects"] for b in truth["objects"]]
        return sum(
            placed(a["class"], relation, b["class"]) == kept
            for a, b in pairs
            for relation in relations(a["box"], b["box"], THRESHOLDS[1])
        )

    assert shown() > 5
    for module in (draw, places):
        monkeypatch.setattr(module, "held_out", lambda: frozenset({kept}))
    assert shown() == 0


def test_a_picture_depends_on_the_settings_and_its_number_alone(sprites: Sprites) -> None:
    def pictures(order: list[int]) -> dict[int, Any]:
        return {k: make_hard_example(k, SETTINGS, sprites).image.tobytes() for k in order}

    first = pictures([0, 1, 2])
    assert pictures([2, 0, 1]) == first
    assert len(set(first.values())) == 3


def test_a_picture_can_be_drawn_again(sprites: Sprites) -> None:
    scene = draw_hard_scene(SETTINGS.objects, Split.TRAIN, np.random.default_rng(4))
    picture, groups = draw_picture_of(scene, sprites, 128, np.random.default_rng(5))
    assert sorted(groups) == [k for k, g in enumerate(scene.groups) for _ in range(g.count)]
    assert draw_picture(picture, sprites).tobytes() == draw_picture(picture, sprites).tobytes()
    assert "#" in picture.background

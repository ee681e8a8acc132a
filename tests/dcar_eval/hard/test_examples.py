"""Images of the harder grammar: what they promise is in their pixels and their truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcar_eval.geneval import Detection, Options, relations
from dcar_eval.hard import examples, places, sample
from dcar_eval.hard.examples import make_hard_example
from dcar_eval.hard.grammar import Group, HardScene, HardTask
from dcar_eval.hard.judge import judge
from dcar_eval.hard.places import (
    HIDDEN,
    SIDES,
    SIZE_SIDES,
    SPREAD,
    THRESHOLDS,
    NoRoomError,
    sample_layout,
)
from dcar_eval.hard.sample import sample_hard_scene
from dcar_eval.scenes.dataset import Settings
from dcar_eval.scenes.held_out import placed
from dcar_eval.scenes.layout import Layout, render_layout, sprite_of
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import COLORS, Split

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
        layout = make_hard_example(index, SETTINGS, sprites).layout
        masks = []
        for thing in layout.objects:
            mask = np.zeros((layout.size, layout.size), dtype=bool)
            opaque = np.asarray(sprite_of(thing, sprites).getchannel("A")) > 127
            mask[thing.y : thing.y + thing.side, thing.x : thing.x + thing.side] = opaque
            masks.append(mask)
        for k, mask in enumerate(masks):
            later = np.any([np.zeros_like(mask), *masks[k + 1 :]], axis=0)
            hidden.append((mask & later).sum() / mask.sum())
    assert 0.15 < max(hidden) <= HIDDEN + 0.04  # the raster is coarser than the image


def test_sides_and_shades_are_any_in_their_range(sprites: Sprites) -> None:
    sides: list[float] = []
    for index in range(NUMBER):
        example = make_hard_example(index, SETTINGS, sprites)
        layout = example.layout
        for thing, truth in zip(layout.objects, example.truth["objects"], strict=True):
            low, high = SIZE_SIDES.get(truth["size"], SIDES[min(len(layout.objects), 5)])
            left, top, right, bottom = truth["box"]
            longer = max(right - left, bottom - top) / layout.size
            assert low - 0.015 <= longer <= high + 0.015
            assert 0 <= thing.x <= layout.size - thing.side
            assert 0 <= thing.y <= layout.size - thing.side
            sides.append(longer)
            assert (thing.shade is None) == (thing.color is None)
            if thing.shade is not None and thing.color is not None:
                assert np.abs(np.subtract(thing.shade, COLORS[thing.color])).max() <= SPREAD
    assert len(set(sides)) > 20


def test_a_shade_keeps_to_its_own_color() -> None:
    """Two colors are further apart than two shades can come to each other."""
    anchors = np.array(list(COLORS.values()))
    distances = np.abs(anchors[:, None] - anchors[None]).max(-1) + 1000 * np.eye(len(anchors))
    assert distances.min() > 2 * SPREAD


def test_training_shows_no_held_out_relation_even_unsaid(
    sprites: Sprites, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of these four none is held out; so one that is often seen is."""
    kept = ("apple", "left of", "car")

    def shown() -> int:
        images = [make_hard_example(index, SETTINGS, sprites).truth for index in range(100)]
        pairs = [(a, b) for truth in images for a in truth["objects"] for b in truth["objects"]]
        return sum(
            placed(a["class"], relation, b["class"]) == kept
            for a, b in pairs
            for relation in relations(a["box"], b["box"], THRESHOLDS[1])
        )

    assert shown() > 5
    for module in (places, sample):
        monkeypatch.setattr(module, "held_out", lambda: frozenset({kept}))
    assert shown() == 0


def test_a_image_depends_on_the_settings_and_its_number_alone(sprites: Sprites) -> None:
    def images(order: list[int]) -> dict[int, Any]:
        return {k: make_hard_example(k, SETTINGS, sprites).image.tobytes() for k in order}

    first = images([0, 1, 2])
    assert images([2, 0, 1]) == first
    assert len(set(first.values())) == 3


def test_a_image_can_be_drawn_again(sprites: Sprites) -> None:
    scene = sample_hard_scene(SETTINGS.objects, Split.TRAIN, np.random.default_rng(4))
    layout, groups = sample_layout(scene, sprites, 128, np.random.default_rng(5))
    assert sorted(groups) == [k for k, g in enumerate(scene.groups) for _ in range(g.count)]
    assert render_layout(layout, sprites).tobytes() == render_layout(layout, sprites).tobytes()
    assert "#" in layout.background


def test_a_scene_without_room_gives_way_to_another(
    sprites: Sprites, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three scissors and three pizzas, say: a set of 14,000 images ended at them."""
    refused = []

    def refuse_first(scene: HardScene, *rest: Any, **options: Any) -> tuple[Layout, list[int]]:
        if not refused:
            refused.append(scene)
            raise NoRoomError("no room was found")
        return sample_layout(scene, *rest, **options)

    plain = make_hard_example(0, SETTINGS, sprites)
    monkeypatch.setattr(examples, "sample_layout", refuse_first)
    other = make_hard_example(0, SETTINGS, sprites)
    again = make_hard_example(0, SETTINGS, sprites)
    assert refused and other.captions != plain.captions
    assert again.captions == plain.captions and again.truth == plain.truth


def test_where_no_scene_has_room_it_is_said(
    sprites: Sprites, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not tried for ever."""
    tried = []

    def refuse(scene: HardScene, *_: Any, **__: Any) -> tuple[Layout, list[int]]:
        tried.append(scene)
        raise NoRoomError("no room was found")

    monkeypatch.setattr(examples, "sample_layout", refuse)
    with pytest.raises(NoRoomError):
        make_hard_example(0, SETTINGS, sprites)
    assert len(tried) == examples.SCENES


def test_who_asks_for_a_scene_hears_that_it_has_no_room(
    sprites: Sprites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "ATTEMPTS", 3)
    crowd = HardScene(
        task=HardTask.GROUPS, groups=(Group(name="apple", count=40), Group(name="car", count=40))
    )
    with pytest.raises(NoRoomError, match="no room was found"):
        sample_layout(crowd, sprites, SETTINGS.size, np.random.default_rng(0))

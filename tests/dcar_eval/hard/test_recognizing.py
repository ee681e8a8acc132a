"""What the recognizer of the harder grammar sees in training, and the one that ships."""

from pathlib import Path

import numpy as np

from dcar_eval.hard.grammar import BENCHMARK
from dcar_eval.hard.held_out import OBJECTS
from dcar_eval.hard.judge import metadata
from dcar_eval.hard.prompts import load
from dcar_eval.hard.recognizing import BUNDLED, NEIGHBORHOOD, SIDE, compose, scene_of
from dcar_eval.scenes.recognizer import Recognizer
from dcar_eval.scenes.sprites import Sprites

CLASSES = ["apple", "banana", "car", "dog"]


def test_a_composition_has_one_to_six_objects_where_it_says(npm_folder: Path) -> None:
    sprites = Sprites(npm_folder, tuple(CLASSES))
    counts = set()
    for index in range(40):
        made = compose(index, seed=0, classes=CLASSES, sprites=sprites, size=96)
        assert made.image.size == (96, 96)
        counts.add(len(made.objects))
        for kind, color, (left, top, right, bottom) in made.objects:
            assert 0 <= kind < 4
            assert -1 <= color < 10
            assert 0 <= left < right <= 1
            assert 0.15 < max(right - left, bottom - top) < 0.6
    assert counts == {1, 2, 3, 4, 5, 6}
    again = compose(3, seed=0, classes=CLASSES, sprites=sprites, size=96)
    first = compose(3, seed=0, classes=CLASSES, sprites=sprites, size=96)
    assert np.array_equal(np.asarray(again.image), np.asarray(first.image))


def test_a_row_asks_for_the_scene_that_it_was_made_from() -> None:
    for row in load()["prompts"]:
        asked = {k: v for k, v in row.items() if k not in ("seen", "shows")}
        made = metadata(scene_of(row))
        for key in ("tag", "include"):
            assert made[key] == asked[key]
        assert sorted(map(str, made["exclude"])) == sorted(map(str, asked["exclude"]))


def test_the_one_that_ships() -> None:
    """Its ceiling on true images of the benchmark's unseen prompts, as it was measured."""
    recognizer, _ = Recognizer.from_pretrained(BUNDLED)
    config = recognizer.config
    assert config.classes == list(OBJECTS)
    assert (config.side, config.neighbourhood) == (SIDE, NEIGHBORHOOD)
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) <= 4_000_000
    assert set(config.ceiling["tasks"]) == {task.value for task in BENCHMARK}
    assert config.ceiling["overall"] >= 0.95
    assert min(config.ceiling["tasks"].values()) >= 0.95
    assert config.ceiling["refused"] >= 0.99
    assert config.ceiling["reconstructed"]["overall"] < config.ceiling["overall"]

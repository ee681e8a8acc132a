"""What a recognizer learns from: true labels, and images that depend on their number alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ImageChops

from dcar_eval.scenes import compositions
from dcar_eval.scenes.compositions import compose, degrade
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import COLORS

CLASSES = ["apple", "banana", "car", "dog"]


def test_a_composition_depends_on_its_number_and_the_seed_alone(npm_folder: Path) -> None:
    def draw(index: int, seed: int) -> bytes:
        sprites = Sprites(npm_folder, tuple(CLASSES))
        made = compose(index, seed=seed, classes=CLASSES, sprites=sprites, size=128)
        return degrade(made.image, index, seed=seed).tobytes()

    images = [draw(0, 0), draw(1, 0), draw(0, 1)]
    assert len(set(images)) == 3
    assert [draw(0, 0), draw(1, 0), draw(0, 1)] == images


def test_boxes_and_colors_are_those_of_the_pixels(
    npm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the same composition with nothing in it: a box holds all that differs."""
    sprites = Sprites(npm_folder, tuple(CLASSES))
    monkeypatch.setattr(compositions, "COUNT_WEIGHTS", (1.0, 0, 0, 0, 0))
    names = list(COLORS)
    seen = 0
    for index in range(40):
        made = compose(index, seed=0, classes=CLASSES, sprites=sprites, size=128)
        (thing,) = made.objects
        empty = compositions._background(np.random.default_rng([0, index]), 128)
        difference = ImageChops.difference(made.image, empty).convert("L")
        changed = difference.point([0] * 30 + [255] * 226).getbbox()
        left, top, right, bottom = (128 * value for value in thing.box)
        if changed is None:
            continue
        # An object may be as pale as what is behind it: then less differs, never more.
        assert changed[0] >= left - 2 and changed[1] >= top - 2
        assert changed[2] <= right + 2 and changed[3] <= bottom + 2
        if thing.color >= 0:
            inside = made.image.crop((round(left), round(top), round(right), round(bottom)))
            median = np.median(np.asarray(inside).reshape(-1, 3), axis=0)
            assert np.abs(median - COLORS[names[thing.color]]).max() <= 60
            seen += 1
    assert seen > 10


def test_objects_hardly_cover_each_other(npm_folder: Path) -> None:
    sprites = Sprites(npm_folder, tuple(CLASSES))
    several = 0
    for index in range(60):
        boxes = [
            thing.box
            for thing in compose(index, seed=5, classes=CLASSES, sprites=sprites, size=128).objects
        ]
        several += len(boxes) > 1
        for number, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[number + 1 :]:
                width = min(right, other[2]) - max(left, other[0])
                height = min(bottom, other[3]) - max(top, other[1])
                shared = max(width, 0) * max(height, 0)
                assert shared <= 0.1 * (right - left) * (bottom - top) + 1e-6
    assert several > 30

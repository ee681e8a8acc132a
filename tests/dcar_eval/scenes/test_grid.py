"""Layout and image: whole cells, no overlap, boxes that are where the pixels are."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from dcar_eval.scenes.backgrounds import paint_background
from dcar_eval.scenes.grid import CELLS, SIDE, Square, arrange, on_grid
from dcar_eval.scenes.layout import Box, box_of, render_layout
from dcar_eval.scenes.sample import sample_scene
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import (
    COLORS,
    SPRITE_LABELS,
    Scene,
    SceneObject,
    Split,
    Task,
)

OBJECTS = ("apple", "banana", "car", "dog")


def render(
    scene: Scene, squares: list[Square], background: str, sprites: Sprites, size: int
) -> tuple[Image.Image, list[Box]]:
    """The image of a scene on the grid, and the box of each object."""
    layout = on_grid(scene, squares, background, size)
    return render_layout(layout, sprites), [box_of(thing, sprites) for thing in layout.objects]


def drawn(number: int) -> list[Scene]:
    rngs = (np.random.default_rng(index) for index in range(number))
    return [sample_scene(tuple(SPRITE_LABELS), Split.TRAIN, rng) for rng in rngs]


def test_squares_are_inside_and_apart() -> None:
    seen = set()
    for scene in drawn(500):
        squares = arrange(scene)
        assert len(squares) == len(scene.objects)
        seen.add(len(squares))
        assert all(0 <= first <= CELLS - SIDE for square in squares for first in square)
        for (x1, y1), (x2, y2) in combinations(squares, 2):
            assert max(abs(x1 - x2), abs(y1 - y2)) >= SIDE
    assert seen == {1, 2, 3, 4}


def test_a_relation_is_where_it_says() -> None:
    sign = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
    seen = set()
    for scene in drawn(500):
        if scene.relation is not None:
            first, second = arrange(scene)
            axis, direction = sign[scene.relation]
            assert (first[axis] - second[axis]) * direction >= SIDE
            assert first[1 - axis] == second[1 - axis]
            seen.add(scene.relation)
    assert seen == set(sign)


def test_without_a_relation_objects_stand_in_the_order_of_reading() -> None:
    for scene in drawn(500):
        if scene.relation is None:
            rows_first = [(row, column) for column, row in arrange(scene)]
            assert rows_first == sorted(rows_first)


@pytest.mark.parametrize("size", [64, 256])
def test_boxes_are_the_extents_of_what_is_seen(npm_folder: Path, size: int) -> None:
    """Against the image itself: where it differs from its background, that is the object."""
    sprites = Sprites(npm_folder, OBJECTS)
    for kind, name in enumerate(OBJECTS):
        scene = Scene(task=Task.SINGLE, objects=(SceneObject(name=name),))
        layout, boxes = render(scene, [(kind % 3, 2)], "mist", sprites, size)
        difference = ImageChops.difference(layout, paint_background("mist", size))
        visible = difference.convert("L").point([0] * 25 + [255] * 231).getbbox()
        assert boxes[0] == pytest.approx(visible, abs=1)
        cell = size // CELLS
        left, top, right, bottom = boxes[0]
        assert kind % 3 * cell <= left < right <= (kind % 3 + 4) * cell
        assert 2 * cell <= top < bottom <= 6 * cell


def test_objects_appear_in_the_color_that_is_asked_for(npm_folder: Path) -> None:
    sprites = Sprites(npm_folder, OBJECTS)
    for color, rgb in COLORS.items():
        scene = Scene(task=Task.COLORS, objects=(SceneObject(name="car", color=color),))
        layout, boxes = render(scene, [(1, 1)], "mist", sprites, 256)
        pixels = np.asarray(layout.crop(boxes[0])).reshape(-1, 3)
        assert np.abs(np.median(pixels, axis=0) - rgb).max() <= 60


def test_a_image_is_the_same_at_another_size(npm_folder: Path) -> None:
    """The grid scales: at twice the size every box is twice as far, give or take a pixel."""
    sprites = Sprites(npm_folder, OBJECTS)
    scene = Scene(
        task=Task.TWO, objects=(SceneObject(name="dog"), SceneObject(name="car", color="blue"))
    )
    small, at_128 = render(scene, arrange(scene), "sand", sprites, 128)
    large, at_256 = render(scene, arrange(scene), "sand", sprites, 256)
    for a, b in zip(at_128, at_256, strict=True):
        assert b == pytest.approx([2 * value for value in a], abs=2)
    shrunk = np.asarray(large.resize((128, 128), Image.Resampling.BOX)).astype(int)
    assert np.abs(shrunk - np.asarray(small)).mean() < 3

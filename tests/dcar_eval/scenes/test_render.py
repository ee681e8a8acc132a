"""Layout and picture: whole cells, no overlap, boxes that are where the pixels are."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from dcar_eval.scenes.backgrounds import paint_background
from dcar_eval.scenes.draw import draw_scene
from dcar_eval.scenes.render import CELLS, draw_layout, render
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import (
    COLOURS,
    SPRITE_LABELS,
    WINDOWS,
    Cells,
    Scene,
    SceneObject,
    Split,
    Task,
)

OBJECTS = ("apple", "banana", "car", "dog")


def drawn(number: int) -> list[tuple[Scene, list[tuple[int, int, int]]]]:
    result = []
    for index in range(number):
        rng = np.random.default_rng(index)
        scene = draw_scene(tuple(SPRITE_LABELS), Split.TRAIN, rng)
        result.append((scene, draw_layout(scene, rng)))
    return result


def test_squares_are_inside_and_apart() -> None:
    for scene, layout in drawn(500):
        assert len(layout) == len(scene.objects)
        for column, row, side in layout:
            assert 0 <= column <= CELLS - side
            assert 0 <= row <= CELLS - side
        for (x1, y1, s1), (x2, y2, s2) in combinations(layout, 2):
            assert x1 + s1 <= x2 or x2 + s2 <= x1 or y1 + s1 <= y2 or y2 + s2 <= y1


def test_few_sizes() -> None:
    sides = {len(scene.objects) > 1: set() for scene, _ in drawn(200)}
    for scene, layout in drawn(200):
        sides[len(scene.objects) > 1] |= {side for _, _, side in layout}
    assert sides == {False: {4}, True: {3, 4}}


def test_a_relation_is_where_it_says() -> None:
    sign = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
    seen = set()
    for scene, (first, *others) in drawn(500):
        if scene.relation is not None:
            axis, direction = sign[scene.relation]
            assert (first[axis] - others[0][axis]) * direction >= 4
            assert first[1 - axis] == others[0][1 - axis]
            seen.add(scene.relation)
    assert seen == set(sign)


def test_windows_hold_whole_squares_apart_and_in_their_relation() -> None:
    sign = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
    for cells in WINDOWS:
        for index in range(200):
            rng = np.random.default_rng(index)
            scene = draw_scene(OBJECTS, Split.TRAIN, rng, cells=cells)
            squares = draw_layout(scene, rng, cells)
            assert {side for _, _, side in squares} <= {3, 4}
            for column, row, side in squares:
                assert 0 <= column <= cells[0] - side
                assert 0 <= row <= cells[1] - side
            if scene.relation is not None:
                axis, direction = sign[scene.relation]
                assert (squares[0][axis] - squares[1][axis]) * direction >= 4


@pytest.mark.parametrize("cells", WINDOWS)
def test_a_window_has_the_pixels_of_the_whole_picture(npm_folder: Path, cells: Cells) -> None:
    sprites = Sprites(npm_folder, OBJECTS)
    rng = np.random.default_rng(0)
    scene = draw_scene(OBJECTS, Split.TRAIN, rng, cells=cells)
    layout = draw_layout(scene, rng, cells)
    column, row = (CELLS - number for number in cells)
    moved = [(x + column, y + row, side) for x, y, side in layout]
    window, _ = render(scene, layout, "sky stripes", sprites, 256, cells, (column, row))
    whole, _ = render(scene, moved, "sky stripes", sprites, 256)
    cut = whole.crop((column * 32, row * 32, 256, 256))
    assert ImageChops.difference(window, cut).getbbox() is None


@pytest.mark.parametrize("size", [64, 256])
def test_boxes_are_the_extents_of_what_is_seen(npm_folder: Path, size: int) -> None:
    """Against the picture itself: where it differs from its background, that is the object."""
    sprites = Sprites(npm_folder, OBJECTS)
    for kind, name in enumerate(OBJECTS):
        scene = Scene(task=Task.SINGLE, objects=(SceneObject(name=name),))
        picture, placed = render(scene, [(kind % 3, 2, 4)], "mist", sprites, size)
        difference = ImageChops.difference(picture, paint_background("mist", size))
        visible = difference.convert("L").point([0] * 25 + [255] * 231).getbbox()
        assert placed[0].box == pytest.approx(visible, abs=1)
        cell = size // CELLS
        left, top, right, bottom = placed[0].box
        assert kind % 3 * cell <= left < right <= (kind % 3 + 4) * cell
        assert 2 * cell <= top < bottom <= 6 * cell


def test_objects_appear_in_the_colour_that_is_asked_for(npm_folder: Path) -> None:
    sprites = Sprites(npm_folder, OBJECTS)
    for colour, rgb in COLOURS.items():
        scene = Scene(task=Task.COLORS, objects=(SceneObject(name="car", colour=colour),))
        picture, placed = render(scene, [(1, 1, 6)], "mist", sprites, 256)
        pixels = np.asarray(picture.crop(placed[0].box)).reshape(-1, 3)
        assert np.abs(np.median(pixels, axis=0) - rgb).max() <= 60


def test_a_picture_is_the_same_at_another_size(npm_folder: Path) -> None:
    """The grid scales: at twice the size every box is twice as far, give or take a pixel."""
    sprites = Sprites(npm_folder, OBJECTS)
    scene = Scene(
        task=Task.TWO, objects=(SceneObject(name="dog"), SceneObject(name="car", colour="blue"))
    )
    layout = [(0, 2, 4), (4, 2, 4)]
    small, at_128 = render(scene, layout, "sand", sprites, 128)
    large, at_256 = render(scene, layout, "sand", sprites, 256)
    for a, b in zip(at_128, at_256, strict=True):
        assert b.box == pytest.approx([2 * value for value in a.box], abs=2)
    shrunk = np.asarray(large.resize((128, 128), Image.Resampling.BOX)).astype(int)
    assert np.abs(shrunk - np.asarray(small)).mean() < 3

"""Backgrounds: named, alike wherever they are painted, and apart from what is before them."""

import numpy as np
import pytest

from dcar_eval.scenes.backgrounds import (
    CONTRAST,
    KINDS,
    SHADES,
    ends,
    names_of,
    paint_background,
    sample_background,
)
from dcar_eval.scenes.world import COLORS, Scene, SceneObject, Task


@pytest.mark.parametrize("kind", KINDS)
def test_a_background_stands_apart_from_the_colors(kind: str) -> None:
    for color, rgb in COLORS.items():
        scene = Scene(task=Task.COLORS, objects=(SceneObject(name="car", color=color),))
        names = {
            sample_background(scene, np.random.default_rng(index), kind) for index in range(60)
        }
        assert len(names) >= 2
        for end in (end for name in names for end in ends(name)):
            assert abs(end - np.array(rgb)).max() >= CONTRAST


@pytest.mark.parametrize("name", names_of("photographic"))
def test_a_background_is_what_lies_between_its_shades(name: str) -> None:
    image = paint_background(name, 96)
    pixels = np.asarray(image).astype(float)
    first, second = ends(name)
    assert image.size == (96, 96)
    assert image.tobytes() == paint_background(name, 96).tobytes()
    assert (pixels >= np.minimum(first, second) - 1).all()
    assert (pixels <= np.maximum(first, second) + 1).all()
    # It does go from the one to the other, all the way but for the middle of its outermost pixels.
    reached = [abs(pixels - end).max(axis=-1).min() for end in (first, second)]
    assert max(reached) <= 0.05 * abs(second - first).max() + 1


def test_kinds_are_one_inside_the_other() -> None:
    plain, varied, photographic = (set(names_of(kind)) for kind in KINDS)
    assert plain == set(SHADES)
    assert plain < varied < photographic


def test_a_pattern_is_the_same_at_another_size() -> None:
    for name in names_of("varied"):
        small = np.asarray(paint_background(name, 64)).astype(int)
        large = np.asarray(paint_background(name, 128).resize((64, 64))).astype(int)
        assert np.abs(small - large).mean() < 2

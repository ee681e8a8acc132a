"""The truth that an image is held against: found again, whatever its caption leaves open."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dcar_eval.geneval import Detection
from dcar_eval.metrics.likeness import IDENTICAL
from dcar_eval.scenes.fidelity import (
    Fidelity,
    hold_against,
    mean_fidelity,
    nearest_truth,
    through,
)
from dcar_eval.scenes.grid import arrange, on_grid
from dcar_eval.scenes.layout import Layout, box_of, render_layout
from dcar_eval.scenes.prompts import BACKGROUNDS
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import Scene, SceneObject, Task
from dcht import Tokenizer
from dcht.images import to_pil, to_tensor

OBJECTS = ("apple", "banana", "car", "dog")
SIZE = 128


@pytest.fixture
def sprites(npm_folder: Path) -> Sprites:
    return Sprites(npm_folder, OBJECTS)


@pytest.fixture
def pair() -> Layout:
    things = (SceneObject(name="car", color="blue"), SceneObject(name="dog"))
    scene = Scene(task=Task.TWO, objects=things)
    return on_grid(scene, arrange(scene), "mist", SIZE)


def found(layout: Layout, sprites: Sprites, off: float = 0) -> list[Detection]:
    """What a detector would say of an image, its boxes off by so many pixels."""
    return [
        Detection(
            class_name=thing.name,
            score=0.9,
            box=tuple(edge + off for edge in box_of(thing, sprites)),  # type: ignore[arg-type]
            color=thing.color or "white",
        )
        for thing in reversed(layout.objects)
    ]


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_whatever_stands_behind_it_a_right_image_is_right(
    pair: Layout, sprites: Sprites, background: str
) -> None:
    seen = render_layout(replace(pair, background=background), sprites)
    truth = nearest_truth(seen, pair, BACKGROUNDS, sprites, found(pair, sprites))
    assert truth.background == background
    measured = hold_against(seen, truth, None)
    assert (measured.psnr, measured.psnr_objects) == (IDENTICAL, IDENTICAL)
    assert (measured.ssim, measured.detail) == pytest.approx((1, 1))
    assert measured.lpips is None


def test_objects_count_within_their_boxes(pair: Layout, sprites: Sprites) -> None:
    """Twenty levels off in the boxes: 22.1 dB there, and their share of it in the whole."""
    seen = np.asarray(render_layout(pair, sprites)).astype(int)
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    for thing in pair.objects:
        left, top, right, bottom = box_of(thing, sprites)
        mask[top:bottom, left:right] = True
    seen[mask] += np.where(seen[mask] > 127, -20, 20)
    spoiled = Image.fromarray(seen.astype(np.uint8))
    truth = nearest_truth(spoiled, pair, BACKGROUNDS, sprites)
    assert np.array_equal(truth.objects, mask)
    measured = hold_against(spoiled, truth, None)
    assert measured.psnr_objects == pytest.approx(20 * np.log10(255 / 20), abs=1e-3)
    share = 10 * np.log10(mask.mean())
    assert measured.psnr == pytest.approx(measured.psnr_objects - share, abs=1e-3)


def test_the_truth_goes_where_the_objects_were_found(pair: Layout, sprites: Sprites) -> None:
    """Smaller and elsewhere, which is right too; the boxes found are three pixels off."""
    car, dog = pair.objects
    free = replace(
        pair,
        background="sand",
        objects=(replace(car, x=4, y=70, side=44), replace(dog, x=70, y=6, side=50)),
    )
    seen = render_layout(free, sprites)
    boxes = found(free, sprites, off=3)
    moved = hold_against(seen, nearest_truth(seen, pair, BACKGROUNDS, sprites, boxes), None)
    assert moved.psnr_objects > 35
    assert moved.detail > 0.95
    # Where what was asked for is not there, nothing is moved.
    stayed = hold_against(seen, nearest_truth(seen, pair, BACKGROUNDS, sprites), None)
    assert stayed.psnr_objects < 15
    only_one = nearest_truth(seen, pair, BACKGROUNDS, sprites, boxes[:1])
    assert hold_against(seen, only_one, None) == stayed


def test_objects_of_one_kind_are_told_apart_by_their_color(sprites: Sprites) -> None:
    things = (SceneObject(name="car", color="blue"), SceneObject(name="car", color="red"))
    scene = Scene(task=Task.FREE, objects=things)
    asked = on_grid(scene, arrange(scene), "mist", SIZE)
    blue, red = asked.objects
    swapped = replace(asked, objects=(replace(blue, x=red.x), replace(red, x=blue.x)))
    seen = render_layout(swapped, sprites)
    truth = nearest_truth(seen, asked, BACKGROUNDS, sprites, found(swapped, sprites))
    assert hold_against(seen, truth, None).psnr_objects > 35


def test_the_ceiling_is_the_tokenizer_s(
    pair: Layout, sprites: Sprites, tokenizer: Tokenizer
) -> None:
    truth = nearest_truth(render_layout(pair, sprites), pair, BACKGROUNDS, sprites)
    with torch.no_grad():
        expected = to_pil(tokenizer.reconstruct(to_tensor(truth.pixels)[None])[0])
    assert through(tokenizer, truth).tobytes() == expected.tobytes()


def test_lpips_is_asked_in_its_own_range(pair: Layout, sprites: Sprites) -> None:
    def distance(ours: Tensor, theirs: Tensor) -> Tensor:
        assert ours.shape == theirs.shape == (1, 3, SIZE, SIZE)
        assert -1 <= float(ours.min()) < -0.5 < 0.5 < float(ours.max()) <= 1
        return (ours - theirs).abs().amax((1, 2, 3)) + 0.25

    seen = render_layout(pair, sprites)
    truth = nearest_truth(seen, pair, BACKGROUNDS, sprites)
    assert hold_against(seen, truth, distance).lpips == 0.25


def test_means_are_of_what_was_measured() -> None:
    one = Fidelity(psnr=20, psnr_objects=10, ssim=0.5, lpips=None, detail=0.1)
    other = replace(one, psnr=30, ssim=0.7)
    means = mean_fidelity([one, other])
    assert means == {"psnr": 25, "psnr_objects": 10, "ssim": pytest.approx(0.6), "lpips": None}
    nothing = mean_fidelity([])
    assert nothing == dict.fromkeys(("psnr", "psnr_objects", "ssim", "lpips"))

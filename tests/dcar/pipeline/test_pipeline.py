import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from dcar import Order, TextToImage
from dcht import UsageError


def levels(a: Image.Image, b: Image.Image) -> np.ndarray:
    return np.asarray(ImageChops.difference(a, b))


def test_images_come_in_the_order_of_the_prompts(pipe: TextToImage) -> None:
    result = pipe(["a red apple", "a blue car"], num_images=2, seed=3)
    assert len(result.images) == 4
    assert result.prompts == ["a red apple", "a red apple", "a blue car", "a blue car"]
    assert {image.size for image in result.images} == {(96, 64)}
    assert result.indices.shape == (4, 2, 3) and result.indices.max() < 64
    assert (result.seed, result.settings.num_steps) == (3, 3)
    # Every image has noise of its own.
    assert result.images[0].tobytes() != result.images[1].tobytes()


@pytest.mark.parametrize("order", list(Order))
def test_image_k_is_the_same_whatever_the_batch_size(pipe: TextToImage, order: Order) -> None:
    prompts = ["a red apple", "a blue car", "two green cars", "a dog"]
    results = {
        size: pipe(prompts, num_images=2, batch_size=size, cfg_scale=2.0, order=order)
        for size in (1, 3, 8)
    }
    for size in (3, 8):
        assert torch.equal(results[size].indices, results[1].indices)
        for a, b in zip(results[size].images, results[1].images, strict=True):
            assert levels(a, b).max() <= 1 and (levels(a, b) > 0).mean() <= 1e-3


def test_a_seed_is_a_image(pipe: TextToImage) -> None:
    one, same, other = (pipe("a dog", seed=seed).images[0] for seed in (5, 5, 6))
    assert one.tobytes() == same.tobytes() != other.tobytes()


def test_settings_take_the_place_of_the_checkpoint_s(pipe: TextToImage) -> None:
    result = pipe(
        "a dog", height=32, width=128, num_steps=2, cfg_scale=0, temperature=0.5,
        num_diffusion_steps=1, order="random",
    )  # fmt: skip
    assert result.images[0].size == (128, 32)
    settings = result.settings
    assert (settings.num_steps, settings.num_diffusion_steps) == (2, 1)
    assert (settings.cfg_scale, settings.temperature) == (0, 0.5)
    assert settings.order is Order.random


def test_stream_shows_every_step_and_ends_with_the_image(pipe: TextToImage) -> None:
    previews = list(pipe.stream(["a red apple", "a blue car"], seed=1))
    assert [preview.step for preview in previews] == [1, 2, 3, 3]
    assert [preview.refined for preview in previews] == [False, False, False, True]
    left = [int((preview.indices == 64).sum()) for preview in previews]
    assert left[0] > left[1] > left[2] == left[3] == 0
    assert all(len(preview.images) == 2 for preview in previews)
    result = pipe(["a red apple", "a blue car"], seed=1)
    assert [image.tobytes() for image in previews[-1].images] == [
        image.tobytes() for image in result.images
    ]
    # The residual is what the refined images add.
    assert previews[2].images[0].tobytes() != previews[3].images[0].tobytes()


def test_without_a_head_the_discrete_image_is_final(pipe: TextToImage) -> None:
    pipe.model.head = None
    previews = list(pipe.stream("a red apple"))
    assert previews[-1].images[0].tobytes() == previews[-2].images[0].tobytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 70}, "height 70 is not a multiple of 32; the nearest is 64"),
        ({"width": 7}, "width 7 is not a multiple of 32; the nearest is 32"),
        ({"num_steps": 0}, "num_steps is 0; expected 1 to 4,096"),
        ({"cfg_scale": -1.0}, "cfg_scale is -1.0"),
        ({"order": "spiral"}, "order 'spiral' is not known; use confidence, random"),
        ({"seed": -1}, "seed is -1; it must not be negative"),
        ({"num_images": 0}, "nothing to generate"),
    ],
)
def test_bad_settings_are_one_line(pipe: TextToImage, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        pipe("a dog", **settings)


@pytest.mark.parametrize("prompt", ["", "🍎" * 300, "a\x00b\x07", "a " * 5000, "né\u0301\n\t"])
def test_any_text_is_a_prompt(pipe: TextToImage, prompt: str) -> None:
    assert len(pipe(prompt, num_steps=1, num_diffusion_steps=1).images) == 1


def test_what_is_not_text_is_refused(pipe: TextToImage) -> None:
    with pytest.raises(UsageError, match="not valid text"):
        pipe("\udc80")

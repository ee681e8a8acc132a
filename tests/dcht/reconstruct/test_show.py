"""What is shown of one image: each part is what the tokenizer itself gives."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from dcht import Tokenizer, UsageError
from dcht.images import to_pil, to_tensor
from dcht.reconstruct.show import fit_sides, psnr, show_reconstruction


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@torch.no_grad()
def test_every_part_is_the_tokenizer_s(tokenizer: Tokenizer) -> None:
    image = photo(96, 64)
    shown = show_reconstruction(tokenizer, image)
    pixels = to_tensor(image)[None]
    assert shown.image.tobytes() == image.tobytes()
    for path, found in (("discrete", shown.discrete), ("hybrid", shown.hybrid)):
        assert found.tobytes() == to_pil(tokenizer.reconstruct(pixels, path)[0]).tobytes()  # type: ignore[arg-type]
    assert torch.equal(shown.indices, tokenizer.tokenize(pixels).indices[0])
    error = np.abs(np.asarray(shown.hybrid, int) - np.asarray(image, int)) * 5
    assert np.abs(np.asarray(shown.error, int) - np.minimum(error, 255)).max() <= 6
    expected = np.asarray(shown.hybrid, float) - np.asarray(image, float)
    decibels = 10 * math.log10(255**2 / np.mean(expected**2))
    assert shown.psnr_hybrid == pytest.approx(decibels, abs=1e-4)


def test_psnr_is_that_of_the_8_bits() -> None:
    levels = torch.arange(256.0).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    image = levels / 127.5 - 1
    nudged = (levels + 0.49 * (-1) ** levels) / 127.5 - 1
    assert psnr(nudged, image).item() > 100  # no level differs
    one = ((levels + 1).clamp(max=255)) / 127.5 - 1  # all do but 255, by one
    expected = 10 * math.log10(255**2 / (255 / 256))
    assert psnr(one, image).item() == pytest.approx(expected, abs=1e-4)


def test_bytes_and_use_are_counted(tokenizer: Tokenizer) -> None:
    shown = show_reconstruction(tokenizer, photo(96, 64))
    bits = math.ceil(math.log2(tokenizer.require_quantizer().size))
    assert shown.index_bytes == math.ceil(6 * bits / 8)
    assert shown.residual_bytes == 6 * tokenizer.config.latent_channels * 2
    assert shown.pixel_bytes == 96 * 64 * 3
    counts = [count for _, count in shown.usage()]
    assert sum(counts) == 6 and counts == sorted(counts, reverse=True)
    with Image.open(io.BytesIO(shown._repr_png_())) as strip:
        assert strip.size == (5 * 96 + 4 * 4, 64)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((96, 64), None, (96, 64)), ((100, 70), None, (96, 64)), ((10, 10), None, (32, 32)),
        ((400, 300), 256, (256, 192)), ((300, 400), 128, (96, 128)), ((1000, 10), 64, (64, 32)),
    ],
)  # fmt: skip
def test_sides_are_brought_to_tokens(
    size: tuple[int, int], side: int | None, expected: tuple[int, int]
) -> None:
    assert fit_sides(photo(*size), side).size == expected


def test_a_side_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(UsageError, match="side 100 is not a multiple of 32"):
        fit_sides(photo(64, 64), 100)


def test_psnr_of_a_known_error() -> None:
    images = torch.full((1, 3, 4, 4), 100 / 127.5 - 1)
    off_by_one = images + 1 / 127.5
    assert psnr(off_by_one, images).item() == pytest.approx(20 * math.log10(255), abs=1e-4)

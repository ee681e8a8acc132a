"""Named protocols: their hashes, and the crops, rounding and SSIM that they stand for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from dcar_eval.metrics.crops import cropping
from dcar_eval.metrics.pixels import eight_bits, ssim
from dcar_eval.metrics.protocol import (
    GENERATION_PROTOCOLS,
    PROTOCOLS,
    Crop,
    MetricRounding,
    Ssim,
    fid_name,
)
from dcht.errors import UsageError
from dcht.images import ImageError

RNG = np.random.default_rng(0)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_protocols_that_differ_have_different_hashes() -> None:
    protocols = [*PROTOCOLS.values(), *GENERATION_PROTOCOLS.values()]
    dcar, sana = PROTOCOLS["dcar"], GENERATION_PROTOCOLS["sana"]
    protocols += [replace(dcar, name="other"), replace(dcar, rounding=MetricRounding.half_up)]
    protocols += [replace(dcar, crop=Crop.adm), replace(dcar, fid="efficientnet-lite0")]
    protocols += [replace(sana, size=256), replace(sana, crop=Crop.cover)]
    assert len({protocol.sha256 for protocol in protocols}) == len(protocols)
    assert dcar.sha256 == replace(dcar).sha256
    assert dcar.described()["crop"] == "cover by bicubic, antialiased; crop centre"


HASHES = {
    "dcar": "b6bbce527deac058da9f449e410b80e5e1d32aa448856d5aa46aca3d803f7777",
    "dc-ae": "60a7418900f9194f26bbf31b49fde88959f0885d8af2a4b9cae777b268c22ade",
    "titok": "23ee2b33fad115be07293fe4c38355ff74d7f74fc2468528d9c7d4e23253aa3a",
    "llamagen": "fea29d4c41e8a69ab341b9f3ff18854f573e3106e1b2b1f288223644441dc8da",
    "sana": "830458575a6e4203d3744b8359d2460d9f5ca010671ee56a05ab779821de059f",
    "dc-gen": "2fd79aa6fcdd762d86b38068cdc3c74c93b3e832489366ff4cced7871dd959e0",
    "lossless": "19a845c70af94ab96f0b4a91e844560cca555f094895cbab0ba3f0f4dbec3fde",
}


def test_a_protocol_keeps_its_hash() -> None:
    """Bit for bit, whatever metric comes later: what was published stays in its column."""
    protocols = PROTOCOLS | GENERATION_PROTOCOLS
    assert {name: protocol.sha256 for name, protocol in protocols.items()} == HASHES


def test_only_fids_own_network_gives_fid() -> None:
    assert fid_name("rfid", "inception") == fid_name("rfid", "inception-tf1") == "rfid"
    assert fid_name("gfid", "efficientnet-lite0") == "gfid[efficientnet-lite0]"


@pytest.mark.parametrize("shape", [(96, 64), (97, 65), (64, 131), (50, 40), (64, 64)])
@pytest.mark.parametrize(
    ("crop", "how"),
    [
        (Crop.short_side_bicubic, InterpolationMode.BICUBIC),
        (Crop.short_side_bilinear, InterpolationMode.BILINEAR),
    ],
)
def test_short_side_is_torchvision(
    shape: tuple[int, int], crop: Crop, how: InterpolationMode
) -> None:
    image = picture(*shape)
    expected = Compose([Resize(32, interpolation=how), CenterCrop(32)])(image)
    found = cropping(crop, (32, 32))(image, (32, 32))
    assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_adm_halves_by_box_first() -> None:
    """Of an image four times as large, blocks of 4 x 4 are averaged, in two steps that round."""
    image = picture(128, 140)
    found = np.asarray(cropping(Crop.adm, (32, 32))(image, (32, 32))).astype(float)
    pixels = np.asarray(image).astype(float)
    small = pixels.reshape(35, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(found - small[1:33]).max() < 2
    # Between one and two times as large, bicubic alone; the corner is cut off to a whole number.
    image = picture(50, 61)
    whole = image.resize((32, 39), Image.Resampling.BICUBIC)
    expected = whole.crop((0, 3, 32, 35))
    cut = cropping(Crop.adm, (32, 32))(image, (32, 32))
    assert np.array_equal(np.asarray(cut), np.asarray(expected))
    with pytest.raises(UsageError, match="size 64x32 is not square"):
        cropping(Crop.adm, (64, 32))


@pytest.mark.parametrize("crop", Crop)
@pytest.mark.parametrize("size", [(40_000, 2), (2, 40_000), (300_000, 1)])
def test_no_crop_makes_more_pixels_than_the_cap(crop: Crop, size: tuple[int, int]) -> None:
    """A few bytes of PNG can be as narrow as that."""
    with pytest.raises(ImageError, match="too narrow"):
        cropping(crop, (256, 256))(Image.new("RGB", size), (256, 256))


def test_halves_are_rounded_as_said() -> None:
    images = torch.tensor([0.0, -1.0, 1.0, 3.0, -3.0, 0.25]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    up, even = (
        eight_bits(images, how) for how in (MetricRounding.half_up, MetricRounding.half_even)
    )
    assert up[0, 0, 0].tolist() == even[0, 0, 0].tolist() == [128, 0, 255, 255, 0, 159]
    # Level 64.5 is exact in float32.
    half = torch.full((1, 3, 1, 1), 64.5 / 127.5 - 1)
    assert eight_bits(half, MetricRounding.half_even).unique().tolist() == [64]
    assert eight_bits(half, MetricRounding.half_up).unique().tolist() == [65]


def test_ssim_conventions_are_what_they_are_called() -> None:
    image = RNG.integers(0, 200, (40, 52, 3), dtype=np.uint8)
    noisy = np.clip(image + RNG.normal(0, 20, image.shape), 0, 255).astype(np.uint8)
    doubled = structural_similarity(image / 255, noisy / 255, data_range=2.0, channel_axis=-1)
    assert ssim(image, noisy, Ssim.doubled) == doubled
    assert ssim(image, noisy, Ssim.bordered) == pytest.approx(torchmetrics_ssim(image, noisy))
    # The two differ in the borders alone.
    inner = structural_similarity(
        image, noisy, data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    assert ssim(image, noisy, Ssim.wang) == pytest.approx(inner[1][5:-5, 5:-5].mean())
    for kind in (Ssim.wang, Ssim.bordered, Ssim.doubled):
        assert ssim(image, image, kind) == pytest.approx(1)


def torchmetrics_ssim(image: np.ndarray, other: np.ndarray) -> float:
    """By convolution with an 11 x 11 window over reflected borders, as torchmetrics says."""
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2
    x, y = (
        torch.nn.functional.pad(
            torch.from_numpy(p.astype(np.float64)).movedim(2, 0)[:, None], (5,) * 4, mode="reflect"
        )
        for p in (image, other)
    )

    def blur(values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(values, window[None, None])

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 2.55**2, 7.65**2
    top = (2 * mx * my + c1) * (2 * cov + c2)
    return float((top / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())

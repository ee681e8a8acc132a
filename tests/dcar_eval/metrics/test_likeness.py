"""PSNR and detail: identities, a known distance, and what a blur leaves."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dcar_eval.metrics.likeness import IDENTICAL, RECOGNIZABLE, likenesses, psnr_of

WHOLE = np.ones((64, 64), dtype=bool)


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    blocks = rng.integers(40, 200, (8, 8, 3)).astype(np.float32)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


def test_a_image_is_itself(image: np.ndarray) -> None:
    (found,) = likenesses(image, image, [WHOLE])
    assert found == (IDENTICAL, pytest.approx(1))


def test_a_shift_of_ten_levels_is_28_db_and_takes_no_detail(image: np.ndarray) -> None:
    (found,) = likenesses(image + 10, image, [WHOLE])
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / 100), abs=1e-3)
    assert found.psnr == pytest.approx(psnr_of(100), abs=1e-3)
    assert found.detail == pytest.approx(1, abs=1e-4)


def test_the_negative_has_the_opposite_detail(image: np.ndarray) -> None:
    (found,) = likenesses(255 - image, image, [WHOLE])
    assert found.detail == pytest.approx(-1, abs=1e-4)


def test_regions_are_measured_apart(image: np.ndarray) -> None:
    left = np.zeros_like(WHOLE)
    left[:, :32] = True
    spoiled = image.copy()
    spoiled[:, 32:] = 128
    here, there = likenesses(spoiled, image, [left, ~left])
    assert here.psnr == IDENTICAL
    assert there.psnr < 20
    assert there.detail < RECOGNIZABLE  # nothing is left of it but the edge in the middle
    flat = np.full_like(image, 7)
    assert likenesses(image, flat, [WHOLE])[0].detail == 0


def test_a_blur_takes_detail_at_every_size_alike(image: np.ndarray) -> None:
    def detail(image: np.ndarray, share: float) -> float:
        blurred = gaussian_filter(image, (share * len(image), share * len(image), 0))
        return likenesses(blurred, image, [np.ones(image.shape[:2], dtype=bool)])[0].detail

    large = image.repeat(4, axis=0).repeat(4, axis=1)
    a_little, a_lot = detail(large, 2 / 256), detail(large, 12 / 256)
    assert a_little > 2 * RECOGNIZABLE > RECOGNIZABLE > a_lot
    twice = large.repeat(2, axis=0).repeat(2, axis=1)
    assert detail(twice, 2 / 256) == pytest.approx(a_little, abs=0.02)

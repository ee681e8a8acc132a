import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.metrics import structural_similarity

from dcar_eval.metrics.pairs import PAIR_METRICS, SCALE_WEIGHTS, _ssim_parts, ms_ssim
from dcht import UsageError

PHOTO = data.astronaut()[:256, :256]


def test_equal_images_have_one_and_a_blur_costs_the_more_the_wider_it_is() -> None:
    values = [
        ms_ssim(PHOTO, gaussian_filter(PHOTO, (s, s, 0)) if s else PHOTO) for s in (0, 1, 2, 6)
    ]
    assert values[0] == pytest.approx(1)
    assert values == sorted(values, reverse=True) and values[-1] < 0.8


def test_of_flat_images_only_the_coarsest_luminance_is_left() -> None:
    dark, light = (np.full((176, 200, 3), value, dtype=np.uint8) for value in (60, 90))
    c1 = (0.01 * 255) ** 2
    luminance = (2 * 60 * 90 + c1) / (60**2 + 90**2 + c1)
    assert ms_ssim(dark, light) == pytest.approx(luminance ** SCALE_WEIGHTS[-1])


def test_a_scale_is_scikit_images_ssim() -> None:
    noisy = np.clip(PHOTO + np.random.default_rng(0).normal(0, 20, PHOTO.shape), 0, 255)
    luminance, contrast = _ssim_parts(PHOTO.astype(float), noisy)
    expected = structural_similarity(
        PHOTO.astype(float), noisy, data_range=255, channel_axis=-1, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert (luminance * contrast).mean() == pytest.approx(expected, abs=1e-9)


def test_a_side_too_short_for_five_scales_is_named() -> None:
    with pytest.raises(UsageError, match="176 pixels at least; images are 256x160"):
        ms_ssim(PHOTO[:160], PHOTO[:160])


def test_records_differ() -> None:
    hashes = [metric.record(name)["sha256"] for name, metric in PAIR_METRICS.items()]
    assert len(set(hashes)) == len(hashes)

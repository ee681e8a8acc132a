"""Pixels as 8 bits, PSNR and SSIM: what needs no network. SciPy is imported by who measures."""

from __future__ import annotations

from typing import assert_never

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from dcar_eval.metrics.protocol import MetricRounding, Ssim
from dcht.images import require_finite


def eight_bits(images: Tensor, rounding: MetricRounding = MetricRounding.half_even) -> Tensor:
    """Images (b, 3, H, W) in [-1, 1] as uint8: clamped, rounded.

    Raises:
        UsageError: pixels that are NaN or infinite.
    """
    require_finite(images)
    scaled = ((images.float() + 1) * 127.5).clamp(0, 255)
    match rounding:
        case MetricRounding.half_even:
            return scaled.round().to(torch.uint8)
        case MetricRounding.half_up:
            return (scaled + 0.5).floor().to(torch.uint8)
        case _:
            assert_never(rounding)


def psnr(image: np.ndarray, other: np.ndarray) -> float | None:
    """PSNR in dB of two uint8 images (H, W, 3); None where they are identical (infinite)."""
    if np.array_equal(image, other):
        return None
    from skimage.metrics import peak_signal_noise_ratio

    return float(peak_signal_noise_ratio(image, other, data_range=255))


def ssim(image: np.ndarray, other: np.ndarray, kind: Ssim = Ssim.wang) -> float:
    """SSIM of two uint8 images (H, W, 3), mean over channels.

    `wang` is Wang et al.'s (2004); `doubled` has scikit-image's defaults, which give values up to
    0.02 other, and twice the true range, as in LlamaGen's code, which adds about 0.1.
    """
    from skimage.metrics import structural_similarity

    match kind:
        case Ssim.wang:
            value = structural_similarity(
                image, other, data_range=255, channel_axis=-1,
                gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            )  # fmt: skip
        case Ssim.bordered:
            value = _bordered_ssim(image, other)
        case Ssim.doubled:
            value = structural_similarity(image / 255, other / 255, data_range=2.0, channel_axis=-1)
        case Ssim.none:
            raise ValueError("Ssim.none is not measured")
        case _:
            assert_never(kind)
    return float(value)  # type: ignore[arg-type]  (it is a tuple only where maps are asked for)


def _bordered_ssim(image: np.ndarray, other: np.ndarray) -> float:
    """Wang et al.'s map, filtered over mirrored borders, and the mean of all of it.

    That is torchmetrics' since 1.5 (scikit-image leaves the borders out, as torchmetrics did).
    """
    from scipy.ndimage import gaussian_filter

    def blur(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, truncate=3.5, mode="mirror", axes=(0, 1))

    x, y = (np.asarray(pixels, dtype=np.float64) for pixels in (image, other))
    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((similarity / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))).mean())


def channels_last(pixels: Tensor) -> np.ndarray:
    """uint8 (b, 3, H, W) as an array (b, H, W, 3)."""
    return rearrange(pixels.cpu(), "b c h w -> b h w c").contiguous().numpy()

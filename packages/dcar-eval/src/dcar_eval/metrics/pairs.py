"""Further metrics of an image and its reconstruction, beside a protocol's PSNR, SSIM and LPIPS.

A metric is a row of `PAIR_METRICS`, as one of two sets is a row of `METRICS` (`sets`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from einops import reduce

from dcar_eval.metrics.protocol import FurtherMetric
from dcht.errors import UsageError

SIGMA, WINDOW = 1.5, 11
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales, the finest first: Wang et al.'s, from a study with observers."""
LEAST_SIDE = WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)
"""At the coarsest scale the window still fits."""


@dataclass(frozen=True, kw_only=True)
class PairMetric(FurtherMetric):
    """A metric of two images."""

    compute: Callable[[np.ndarray, np.ndarray], float | None]
    """From two uint8 images (H, W, 3), the original first; None where it has no finite value."""
    least_side: int = 1
    """In pixels, of both sides."""


def ms_ssim(image: np.ndarray, other: np.ndarray) -> float:
    """Multi-scale SSIM (Wang, Simoncelli, Bovik 2003), mean over channels.

    prod_j cs_j^w_j * l_5^w_5: contrast and structure at five scales, each half of the one before
    (means of 2 x 2 pixels), luminance at the coarsest; Gaussian window 11 x 11 of sigma 1.5 where
    it fits whole. A negative mean of cs counts as 0, as in TensorFlow and pytorch-msssim.

    Args:
        image: uint8 (H, W, 3), sides of 176 pixels at least.
        other: the same size.

    Returns:
        From 0 to 1, which is for equal images.

    Raises:
        UsageError: a side is too short for five scales.
    """
    require_sides(["ms-ssim"], (image.shape[1], image.shape[0]))
    x, y = (np.asarray(pixels, dtype=np.float64) for pixels in (image, other))
    value = np.ones(3)
    for number, weight in enumerate(SCALE_WEIGHTS):
        if number:
            x, y = (_halve(pixels) for pixels in (x, y))
        luminance, contrast = _ssim_parts(x, y)
        last = number == len(SCALE_WEIGHTS) - 1
        value *= (luminance * contrast if last else contrast).mean(axis=(0, 1)).clip(
            min=0
        ) ** weight
    return float(value.mean())


def _ssim_parts(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SSIM's two factors at every place where the window fits: luminance, contrast-structure."""
    from scipy.ndimage import gaussian_filter

    inside = slice(WINDOW // 2, -(WINDOW // 2))

    def blur(values: np.ndarray) -> np.ndarray:
        filtered = gaussian_filter(values, SIGMA, radius=WINDOW // 2, axes=(0, 1))
        return filtered[inside, inside]

    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _halve(pixels: np.ndarray) -> np.ndarray:
    """Half as many pixels a side, each the mean of four; an odd last one is left out."""
    height, width = (side - side % 2 for side in pixels.shape[:2])
    return reduce(pixels[:height, :width], "(h a) (w b) c -> h w c", "mean", a=2, b=2)


PAIR_METRICS: dict[str, PairMetric] = {
    "ms-ssim": PairMetric(
        compute=ms_ssim,
        least_side=LEAST_SIDE,
        settings={"weights": list(SCALE_WEIGHTS), "sigma": SIGMA, "window": WINDOW},
        source="Wang, Simoncelli, Bovik: Multi-scale structural similarity (2003)",
    ),
}
"""By the name that `dcar-eval reconstruction --metrics` takes."""


def require_sides(names: Sequence[str], size: tuple[int, int]) -> None:
    """Refuse images that are too small for a metric of `PAIR_METRICS` among these.

    Raises:
        UsageError: a side of `size` (width, height) is too short.
    """
    for name in names:
        if name in PAIR_METRICS and min(size) < PAIR_METRICS[name].least_side:
            raise UsageError(
                f"{name} needs sides of {PAIR_METRICS[name].least_side} pixels at least; images "
                f"are {size[0]}x{size[1]}"
            )

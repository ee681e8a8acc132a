"""How like an image is to a true one where its objects are: PSNR, and the detail that is there.

PSNR alone cannot say whether a person would recognize an object: a plain apple that is blurred
beyond recognition is as near to the truth, in squared error, as a well-made bicycle. Detail can:
what a blur takes away, held against what the same blur takes from the true image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DETAIL_SIGMA = 3 / 256
"""Standard deviation, in sides of the image, of the blur that takes detail away."""
RECOGNIZABLE = 0.35
"""Least detail of an image that counts as recognizable. Of true scenes, all that are blurred by
4 px of 256 have more, and all that are blurred by 8 px have less (`benchmarks/paper/gate.py`)."""
LEVELS = 255.0
IDENTICAL = 100.0
"""PSNR in dB that identical pixels are given, whose own is infinite."""


class Likeness(NamedTuple):
    """Of one region of two images."""

    psnr: float
    """In dB, of 8-bit pixels; at most `IDENTICAL`."""
    detail: float
    """Correlation, -1 to 1, of what `DETAIL_SIGMA` takes from both; 0 where nothing is taken."""


def psnr_of(error: float) -> float:
    """PSNR in dB of a mean squared error of 8-bit pixels; at most `IDENTICAL`."""
    return min(10 * float(np.log10(LEVELS**2 / max(error, 1e-30))), IDENTICAL)


def high_pass(image: np.ndarray) -> np.ndarray:
    """What the blur takes from an image (H, W, 3), float32."""
    from scipy.ndimage import gaussian_filter

    image = image.astype(np.float32)
    sigma = DETAIL_SIGMA * len(image)
    return image - gaussian_filter(image, (sigma, sigma, 0))


def likenesses(image: np.ndarray, truth: np.ndarray, regions: list[np.ndarray]) -> list[Likeness]:
    """How like two images (H, W, 3) of 8-bit values are in each region, (H, W) bool."""
    error = (image.astype(np.float32) - truth.astype(np.float32)) ** 2
    ours, theirs = high_pass(image), high_pass(truth)
    found = []
    for region in regions:
        a, b = ours[region].astype(np.float64), theirs[region].astype(np.float64)
        scale = np.sqrt((a * a).sum() * (b * b).sum())
        detail = float((a * b).sum() / scale) if scale > 0 else 0.0
        found.append(Likeness(psnr_of(float(error[region].mean())), detail))
    return found

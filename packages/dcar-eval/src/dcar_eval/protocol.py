"""Named protocols: what a number depends on besides the model and the images.

Half of the numbers that nobody gets again differ in one of these lines. Results carry the name and
the hash; only results with one hash belong in one column. Neither torch nor hydra is imported here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

SSIM: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
"""Arguments of scikit-image's `structural_similarity` that make it Wang et al.'s (2004): a Gaussian
window of 11 x 11 pixels, population covariance. Its defaults give values up to 0.02 higher."""


@dataclass(kw_only=True)
class Protocol:
    """How reconstructions are measured."""

    name: str
    crop: str = "cover by bicubic, antialiased; crop centre"
    pixels: str = "clamped to [-1, 1], rounded to 8 bits, before every metric"
    psnr: str = "RGB, range 255, mean over images; identical pairs (infinite) left out"
    ssim: str = (
        "scikit-image on RGB, range 255, Gaussian 11 x 11 of sigma 1.5, population covariance"
    )
    lpips: str = "version 0.1; VGG16 and AlexNet apart"
    rfid: str = "pytorch-fid's Inception, bilinear 299 without antialiasing; against the crops"
    average: str = "mean of the images' values"

    @property
    def sha256(self) -> str:
        """Hash of every line above: two protocols that differ have different ones."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


PROTOCOLS: dict[str, Protocol] = {"dcar": Protocol(name="dcar")}
"""By name. `dcar` is this project's reading of the paper's Table 1, which states none of it."""

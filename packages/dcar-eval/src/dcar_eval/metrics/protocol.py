"""Named protocols: what a number depends on besides the model and the images.

Half of the numbers that nobody gets again differ in one of these lines. Results carry the name and
the hash; only results with one hash belong in one column. Neither torch nor hydra is imported here.
What the publications leave open was read from their code; `docs/fid.md` says what.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Crop(Enum):
    """How an image is brought to a square of the side wanted; see `dcar_eval.metrics.crops`."""

    cover = "cover by bicubic, antialiased; crop centre"
    adm = "halve by box while twice as large, cover by bicubic; crop centre (as in ADM)"
    short_side_bicubic = "short side by bicubic, antialiased; crop centre (as in torchvision)"
    short_side_bilinear = "short side by bilinear, antialiased; crop centre (as in torchvision)"


class MetricRounding(Enum):
    """How pixels become 8 bits, before every metric."""

    half_even = "clamped to [-1, 1], rounded to 8 bits, halves to even"
    half_up = "clamped to [-1, 1], rounded to 8 bits, halves up"


class Psnr(Enum):
    """Which PSNR."""

    rgb = "RGB, range 255, mean over images; identical pairs (infinite) left out"
    none = "not measured"


class Ssim(Enum):
    """Which SSIM: on RGB of 8 bits, mean over channels, then over images."""

    wang = "scikit-image, Gaussian 11 x 11 of sigma 1.5, population covariance, range 255"
    bordered = "as torchmetrics: Gaussian 11 x 11 of sigma 1.5, borders mirrored and counted"
    doubled = "scikit-image's 7 x 7 window, sample covariance, range 2 on [0, 1] (inflated)"
    none = "not measured"


class Lpips(Enum):
    """Which LPIPS (heads of version 0.1)."""

    both = "VGG16 and AlexNet apart"
    alex = "AlexNet"
    none = "not measured"


FID_NETWORKS = {
    "inception": "pytorch-fid's Inception, bilinear 299 without antialiasing (torch)",
    "inception-tf1": "pytorch-fid's Inception, bilinear 299 as TensorFlow 1 has it, in float32",
}
"""The extractors whose distance is called FID; with any other it is `fid[name]`."""

REFERENCE = "the crops that the tokenizer is given"


@dataclass(kw_only=True)
class Protocol:
    """How reconstructions are measured."""

    name: str
    crop: Crop = Crop.cover
    rounding: MetricRounding = MetricRounding.half_even
    psnr: Psnr = Psnr.rgb
    ssim: Ssim = Ssim.wang
    lpips: Lpips = Lpips.both
    fid: str = "inception"
    """Name of the feature extractor of rFID."""

    def described(self) -> dict[str, str]:
        """Every line in words, and the hash of them: what results carry."""
        return _described(self, reference=REFERENCE)

    @property
    def sha256(self) -> str:
        """Hash of every line: two protocols that differ have different ones."""
        return self.described()["sha256"]


class ImageFormat(Enum):
    """What generated images are saved as before they are measured."""

    jpg = "JPEG with Pillow's defaults (quality 75, 4:2:0)"
    png = "PNG"


@dataclass(kw_only=True)
class GenerationProtocol:
    """How generated images are measured against a benchmark's (gFID)."""

    name: str
    size: int = 512
    """Side in pixels of what is generated, and of both sets when measured."""
    file: ImageFormat = ImageFormat.jpg
    crop: Crop = Crop.short_side_bilinear
    """Of both sets."""
    fid: str = "inception"
    """Name of the feature extractor."""

    def described(self) -> dict[str, str]:
        """Every line in words, and the hash of them: what results carry."""
        return _described(self, reference="the benchmark's images, cropped alike")

    @property
    def sha256(self) -> str:
        """Hash of every line: two protocols that differ have different ones."""
        return self.described()["sha256"]


def _described(protocol: Protocol | GenerationProtocol, *, reference: str) -> dict[str, str]:
    lines = {
        key: value.value if isinstance(value, Enum) else str(value)
        for key, value in vars(protocol).items()
    }
    lines |= {"fid": FID_NETWORKS.get(protocol.fid, protocol.fid), "reference": reference}
    text = json.dumps(lines, sort_keys=True)
    return lines | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


@dataclass(frozen=True, kw_only=True)
class FurtherMetric:
    """A metric that no protocol has: a record of its own, so that it changes no other's hash."""

    settings: dict[str, Any] = field(default_factory=dict)
    """What the values depend on; part of the record."""
    source: str
    """Where it is defined."""

    def record(self, name: str) -> dict[str, Any]:
        """What its values depend on, and the hash of that under its name: beside each value."""
        lines = {**self.settings, "source": self.source}
        text = json.dumps({"metric": name, **lines}, sort_keys=True)
        return lines | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def fid_name(kind: str, extractor: str) -> str:
    """`rfid` or `gfid` or `fid` or `kid` with FID's own network, `rfid[name]` with another."""
    return kind if extractor in FID_NETWORKS else f"{kind}[{extractor}]"


def _by_name(entries: list[Any]) -> dict[str, Any]:
    """Protocols by their names."""
    return {entry.name: entry for entry in entries}


PROTOCOLS: dict[str, Protocol] = _by_name(
    [
        Protocol(name="dcar"),
        Protocol(
            name="dc-ae",
            crop=Crop.adm,
            rounding=MetricRounding.half_up,
            ssim=Ssim.bordered,
            lpips=Lpips.alex,
        ),
        Protocol(
            name="titok",
            crop=Crop.short_side_bicubic,
            psnr=Psnr.none,
            ssim=Ssim.none,
            lpips=Lpips.none,
            fid="inception-tf1",
        ),
        Protocol(
            name="llamagen",
            crop=Crop.adm,
            rounding=MetricRounding.half_up,
            ssim=Ssim.doubled,
            lpips=Lpips.none,
            fid="inception-tf1",
        ),
    ]
)
"""By name. `dcar` is this project's reading of the paper's Table 1, which states none of it; the
others are what the public code of DC-AE, TiTok and LlamaGen does."""

GENERATION_PROTOCOLS: dict[str, GenerationProtocol] = _by_name(
    [
        GenerationProtocol(name="sana"),
        GenerationProtocol(name="dc-gen", crop=Crop.adm),
        GenerationProtocol(name="lossless", file=ImageFormat.png),
    ]
)
"""By name. The paper's gFID column follows Sana's (its baselines are Sana's numbers)."""

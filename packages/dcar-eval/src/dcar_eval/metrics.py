"""PSNR, SSIM and LPIPS of a reconstruction against its image, both 8 bits; FID's network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from dcar_eval.inception import load_inception
from dcar_eval.protocol import SSIM
from dcht.errors import CheckpointError, UsageError
from dcht.images import to_pil
from dcht.perceptual import TRUNKS, load_lpips

HOW_TO_GET = "`python -m dcht.perceptual --help` says how to get the weights"


def eight_bits(images: Tensor) -> np.ndarray:
    """Images (b, 3, H, W) in [-1, 1] as uint8 (b, H, W, 3): clamped, rounded."""
    return np.stack([np.asarray(to_pil(pixels)) for pixels in images])


def psnr(image: np.ndarray, other: np.ndarray) -> float | None:
    """PSNR in dB of two uint8 images (H, W, 3); None where they are identical (infinite)."""
    if np.array_equal(image, other):
        return None
    return float(peak_signal_noise_ratio(image, other, data_range=255))


def ssim(image: np.ndarray, other: np.ndarray) -> float:
    """SSIM (Wang et al. 2004) of two uint8 images (H, W, 3), mean over channels."""
    value = structural_similarity(image, other, data_range=255, channel_axis=-1, **SSIM)
    return float(value)  # type: ignore[arg-type]  (it is a tuple only where maps are asked for)


@dataclass(kw_only=True)
class Networks:
    """The networks that there are weights for, and why the others are left out."""

    lpips: dict[str, Callable[[Tensor, Tensor], Tensor]] = field(default_factory=dict)
    """By metric: (b, 3, H, W) in [-1, 1], twice, to distances (b,)."""
    inception: Callable[[Tensor], Tensor] | None = None
    """uint8 (b, 3, H, W) to features (b, 2048)."""
    left_out: dict[str, str] = field(default_factory=dict)
    """By metric: what was missing."""

    @property
    def metrics(self) -> list[str]:
        """Everything that can be measured, in the order of a table."""
        return ["psnr", "ssim", *self.lpips, *(["rfid"] if self.inception else [])]


def load_networks(
    *,
    device: torch.device,
    lpips_weights: str | None = None,
    inception_weights: str | None = None,
) -> Networks:
    """Load LPIPS (both trunks) and Inception from these places, or from where they usually are.

    Raises:
        UsageError: a place that was named does not exist.
        CheckpointError: the Inception file is another one than pytorch-fid's.
    """
    for place in (lpips_weights, inception_weights):
        if place and not Path(place).exists():
            raise UsageError(f"{place} does not exist; expected weights, or a folder with them")
    networks = Networks()
    for net in TRUNKS:
        try:
            networks.lpips[f"lpips_{net}"] = load_lpips(net, lpips_weights).to(device)
        except (UsageError, CheckpointError) as error:
            # One file is one trunk: what fits the one does not fit the other.
            reason = str(error).partition("; ")[0]
            networks.left_out[f"lpips_{net}"] = f"{reason}; {HOW_TO_GET}"
    try:
        networks.inception = load_inception(inception_weights).to(device)
    except UsageError as error:
        networks.left_out["rfid"] = str(error)
    return networks


def measure(
    images: np.ndarray, others: np.ndarray, networks: Networks, device: torch.device
) -> list[dict[str, float | None]]:
    """The metrics of each pair of uint8 images, (b, H, W, 3) both."""
    rows: list[dict[str, float | None]] = [
        {"psnr": psnr(image, other), "ssim": ssim(image, other)}
        for image, other in zip(images, others, strict=True)
    ]
    pair = [channels_first(pixels).to(device) / 127.5 - 1 for pixels in (images, others)]
    for name, distance in networks.lpips.items():
        for row, value in zip(rows, distance(pair[0], pair[1]).tolist(), strict=True):
            row[name] = value
    return rows


def channels_first(pixels: np.ndarray) -> Tensor:
    """uint8 (b, H, W, 3) as a tensor (b, 3, H, W)."""
    return rearrange(torch.from_numpy(pixels), "b h w c -> b c h w")

"""Looking at a tokenizer in training: reconstructions of held-out images, and its latents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from dcht.images import grid, to_pil
from dcht.perceptual import LPIPS
from dcht.reconstruct.show import COMPARED, error_of, psnr
from dcht.tokenizer import Tokenizer
from dcht.train.dataset import Crops, to_images

PICTURE_ROWS = 8
RESIDUAL_IMAGES = 2048
"""The residual's deviation is measured over this many images: at 256 px, 4 million values."""


class Validation(NamedTuple):
    """PSNR in dB, means over images, of both paths; and the rows of the image.

    A row is `COMPARED`: input, discrete path, hybrid path, and the hybrid path's error.
    """

    psnr_hybrid: float
    psnr_discrete: float
    image: Image.Image
    lpips_hybrid: float | None = None
    lpips_discrete: float | None = None

    def scalars(self) -> dict[str, float]:
        """The numbers, for the log; LPIPS where it was measured."""
        numbers = {"val_psnr_hybrid": self.psnr_hybrid, "val_psnr_discrete": self.psnr_discrete}
        if self.lpips_hybrid is not None and self.lpips_discrete is not None:
            numbers["val_lpips_hybrid"] = self.lpips_hybrid
            numbers["val_lpips_discrete"] = self.lpips_discrete
        return numbers


@torch.no_grad()
def validate(
    tokenizer: Tokenizer, crops: Crops, batch_size: int, *, lpips: LPIPS | None = None
) -> Validation:
    """Reconstruct every image's center crop on both paths; measure LPIPS too, given its network."""
    hybrid, discrete, rows = [], [], []
    distances: list[Tensor] = []
    for images in center_batches(tokenizer, crops, batch_size):
        z = tokenizer.encode(images)
        continuous = tokenizer.decode(z)
        quantized = tokenizer.decode(tokenizer.quantize(z).z_q)
        hybrid.append(psnr(continuous, images))
        discrete.append(psnr(quantized, images))
        if lpips is not None:
            pair = [lpips(output, images) for output in (continuous, quantized)]
            distances.append(torch.stack(pair))
        error = error_of(continuous, images)
        for row in zip(images, quantized, continuous, error, strict=True):
            if len(rows) < PICTURE_ROWS * 4:
                rows += [to_pil(pixels) for pixels in row]
    means = torch.cat(distances, dim=1).mean(dim=1).tolist() if distances else (None, None)
    return Validation(
        torch.cat(hybrid).mean().item(),
        torch.cat(discrete).mean().item(),
        grid(rows, len(COMPARED), labels=COMPARED),
        *means,
    )


@torch.no_grad()
def sample_latents(tokenizer: Tokenizer, crops: Crops, count: int, batch_size: int) -> Tensor:
    """Up to about `count` latents z as (n, c), of images spread evenly over `crops`."""
    found: list[Tensor] = []
    for images in center_batches(tokenizer, crops, batch_size, limit=count):
        found.append(rearrange(tokenizer.encode(images), "b c h w -> (b h w) c"))
        if sum(len(latents) for latents in found) >= count:
            break
    return torch.cat(found)


@torch.no_grad()
def measure_residual_std(tokenizer: Tokenizer, crops: Crops, batch_size: int) -> float:
    """Standard deviation of z - z_q over all channels and positions, in fp64."""
    total, squares, count = 0.0, 0.0, 0
    for images in center_batches(tokenizer, crops, batch_size, limit=RESIDUAL_IMAGES):
        residual = tokenizer.residual(tokenizer.encode(images)).double()
        total += residual.sum().item()
        squares += residual.square().sum().item()
        count += residual.numel()
    return (squares / count - (total / count) ** 2) ** 0.5


def center_batches(
    tokenizer: Tokenizer, crops: Crops, batch_size: int, *, limit: int | None = None
) -> Iterator[Tensor]:
    """Center crops (b, 3, H, W) of `limit` images spread evenly over `crops`; None: of all."""
    device = next(tokenizer.parameters()).device
    count = min(len(crops), limit or len(crops))
    indices = [k * len(crops) // count for k in range(count)]
    for first in range(0, count, batch_size):
        batch = [crops[index, None] for index in indices[first : first + batch_size]]
        yield to_images(torch.stack(batch), device)

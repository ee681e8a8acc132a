"""What a tokenizer makes of one image, to be looked at: in a notebook, the app and a command."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from PIL import Image
from torch import Tensor

from dcht.display.codes import code_map
from dcht.display.html import png
from dcht.errors import UsageError
from dcht.flatten import flatten
from dcht.images import grid, resize_crop, to_pil, to_tensor
from dcht.tokenizer import Tokenizer

ERROR_GAIN = 5
"""How much an error image is amplified, everywhere."""
COMPARED = ("input", "discrete", "hybrid", f"{ERROR_GAIN} x error")
"""What `compare` gives of each image, in words."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """An image, what comes back of it down both paths, and its tokens; a notebook shows `strip`."""

    image: Image.Image
    """As the tokenizer saw it."""
    discrete: Image.Image
    hybrid: Image.Image
    error: Image.Image
    """Of the hybrid path, five times; black is none."""
    indices: Tensor
    """(h, w)."""
    codebook_size: int
    channels: int
    """Of the residual, a number each at every token."""
    psnr_discrete: float
    """In dB, of 8 bits..."""
    psnr_hybrid: float
    """...likewise."""

    @property
    def index_bytes(self) -> int:
        """Bytes of the indices with as many bits each as the codebook needs, and no others."""
        return math.ceil(self.indices.numel() * math.ceil(math.log2(self.codebook_size)) / 8)

    @property
    def residual_bytes(self) -> int:
        """Bytes of the residual as a store has it: fp16."""
        return 2 * self.channels * self.indices.numel()

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the image's pixels, three each."""
        return 3 * self.image.width * self.image.height

    def usage(self) -> list[tuple[int, int]]:
        """Codes with how often each is used, the most frequent first."""
        counts = Counter(self.indices.flatten().tolist())
        return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))

    def code_map(self) -> Image.Image:
        """The function `code_map` of these tokens, of the image's size."""
        patch = self.image.height // self.indices.shape[0]
        return code_map(self.indices, patch=patch)

    def strip(self) -> Image.Image:
        """Input, discrete path, hybrid path, 5 x error and code map, side by side."""
        images = [self.image, self.discrete, self.hybrid, self.error, self.code_map()]
        return grid(images, columns=len(images))

    def _repr_png_(self) -> bytes:
        return png(self.strip())


@torch.inference_mode()
def show_reconstruction(
    tokenizer: Tokenizer, image: Image.Image, *, side: int | None = None
) -> Reconstruction:
    """Reconstruct one image of any size down both paths.

    Args:
        tokenizer: one with a quantizer, in eval mode.
        image: any Pillow image.
        side: the longer side in pixels; see `fit_sides`.

    Raises:
        UsageError: see `fit_sides`.
        CheckpointError: the tokenizer has no quantizer.
    """
    quantizer = tokenizer.require_quantizer()
    image = fit_sides(image, side, patch=tokenizer.config.downsampling)
    pixels = rearrange(to_tensor(image), "c h w -> 1 c h w")
    device = next(tokenizer.parameters()).device
    indices = tokenizer.quantize(tokenizer.encode(pixels.to(device))).indices[0].cpu()
    strip = compare(tokenizer, pixels.to(device))[0]
    _, discrete, hybrid, error = (to_pil(part) for part in strip)
    return Reconstruction(
        image=image,
        discrete=discrete,
        hybrid=hybrid,
        error=error,
        indices=indices,
        codebook_size=quantizer.size,
        channels=tokenizer.config.latent_channels,
        psnr_discrete=psnr(strip[1][None].float(), strip[0][None]).item(),
        psnr_hybrid=psnr(strip[2][None].float(), strip[0][None]).item(),
    )


def compare(tokenizer: Tokenizer, images: Tensor, *, tile: int | None = None) -> list[list[Tensor]]:
    """For each image (3, H, W): itself, the discrete path, the hybrid path, and 5 x error."""
    discrete = tokenizer.reconstruct(images, "discrete", tile=tile)
    hybrid = tokenizer.reconstruct(images, "hybrid", tile=tile)
    error = error_of(hybrid, images)
    return [list(strip) for strip in zip(images, discrete, hybrid, error, strict=True)]


def error_of(output: Tensor, images: Tensor) -> Tensor:
    """The error of output as an image in [-1, 1], `ERROR_GAIN` times: black is none."""
    return ((output.clamp(-1, 1) - images).abs() * ERROR_GAIN - 1).clamp(max=1)


def fit_sides(image: Image.Image, side: int | None = None, *, patch: int = 32) -> Image.Image:
    """An image as RGB with sides that are multiples of `patch`, resized and cropped to them.

    Args:
        image: any Pillow image.
        side: of the result, the longer one, about which the other is as the image's shape has it;
            None: the image's own, rounded down to multiples of `patch` (but for the least).
        patch: pixels of a token's side.

    Raises:
        UsageError: `side` is not a multiple of `patch`, or the image has a mode without a range.
    """
    image = flatten(image)
    if side is not None and (side < patch or side % patch):
        raise UsageError(f"side {side} is not a multiple of {patch}; for example {8 * patch}")
    scale = 1 if side is None else side / max(image.size)
    width, height = (
        max(patch, (math.floor if side is None else round)(length * scale / patch) * patch)
        for length in image.size
    )
    return image if image.size == (width, height) else resize_crop(image, (width, height))


def psnr(output: Tensor, images: Tensor) -> Tensor:
    """PSNR (b,) in dB of output against images (b, 3, H, W) in [-1, 1], both as 8 bits would be."""
    ours, theirs = (((pixels.clamp(-1, 1) + 1) * 127.5).round() for pixels in (output, images))
    error = reduce(((ours - theirs) / 127.5).square(), "b c h w -> b", "mean")
    return 10 * torch.log10(4 / error.clamp_min(1e-10))

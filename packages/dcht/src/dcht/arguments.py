"""What the tokenizer's methods take, as its networks need it: images, indices and latents.

Images may be PIL's, bytes or floats; positions a grid (h, w) or flat, n = h w row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from dcht.errors import UsageError
from dcht.flatten import flatten
from dcht.images import scale, to_tensor

Images = Tensor | Image.Image | Sequence[Image.Image]
"""(b, 3, H, W): uint8 in 0..255, or floats in [-1, 1]. Or PIL images of one size, read as files
are: upright, transparency on white."""
LIMIT = 4.0
"""Floats beyond are of another range, 0..255 above all. What decoders and resizing overshoot, and
noise, stays well below."""


def to_pixels(images: Images, *, factor: int) -> Tensor:
    """Images as floats (b, 3, H, W) in [-1, 1]; floats are returned as they are.

    Args:
        images: in any of the forms of `Images`.
        factor: what H and W must be multiples of.

    Raises:
        UsageError: of another form, type or shape, or none at all.
    """
    pixels = images if isinstance(images, Tensor) else _of_pil(images)
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise UsageError(f"images have shape {tuple(pixels.shape)}; expected (b, 3, H, W)")
    for side in pixels.shape[-2:]:
        if side == 0 or side % factor:
            nearest = max(factor, round(side / factor) * factor)
            raise UsageError(
                f"image side {side} is not a multiple of {factor}; the nearest is {nearest}"
            )
    if pixels.dtype == torch.uint8:
        return scale(pixels)
    if not pixels.is_floating_point():
        raise UsageError(f"images are {pixels.dtype}; give uint8 in 0..255 or floats in [-1, 1]")
    return pixels


def _of_pil(images: Image.Image | Sequence[Image.Image]) -> Tensor:
    listed = [images] if isinstance(images, Image.Image) else images
    if not isinstance(listed, (list, tuple)) or not all(
        isinstance(image, Image.Image) for image in listed
    ):
        raise UsageError(
            f"images are a {type(images).__name__}; give PIL images, one or a list, or a tensor "
            "(b, 3, H, W), uint8 in 0..255 or floats in [-1, 1]"
        )
    upright = [flatten(image) for image in listed]
    sizes = sorted({image.size for image in upright})
    if len(sizes) != 1:
        found = ", ".join(f"{width} x {height}" for width, height in sizes) or "none"
        raise UsageError(f"images of one size are needed; found {found}")
    pixels = [to_tensor(image) for image in upright]
    # One is not copied: it would lie in memory otherwise, and the last bits of its z would differ.
    return pixels[0][None] if len(pixels) == 1 else torch.stack(pixels)


def check_range(pixels: Tensor) -> None:
    """Refuse floats that cannot be meant as [-1, 1]; on an accelerator this waits for it.

    Raises:
        UsageError: values beyond `LIMIT`, or NaN.
    """
    if not (pixels.abs() <= LIMIT).all():
        low, high = float(pixels.min()), float(pixels.max())
        raise UsageError(
            f"images run from {low:g} to {high:g}; floats are in [-1, 1], and 0..255 is for uint8"
        )


Grid = tuple[int, int]
"""(h, w) of flat positions."""


def to_indices(indices: Tensor, *, grid: Grid | None, codebook_size: int) -> Tensor:
    """Indices of any integer type, (b, h, w) or (b, n), as (b, h, w) int64.

    On a GPU, and in a compiled graph, an index outside the codebook is an assertion of torch's
    own: nothing waits for the device.

    Raises:
        UsageError: an index outside the codebook, no integers, or n that does not fill the grid.
    """
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise UsageError(f"indices are {indices.dtype}; they should be integers")
    indices = indices.long()
    if indices.ndim == 2:
        indices = _unflatten(indices, grid)
    if indices.ndim != 3:
        raise UsageError(f"indices have shape {tuple(indices.shape)}; expected (b, h, w) or (b, n)")
    known = ((indices >= 0) & (indices < codebook_size)).all()
    has = f"the codebook has 0 to {codebook_size - 1}"
    if indices.is_cuda or indices.is_meta or torch.compiler.is_compiling():
        torch._assert_async(known, f"indices are out of range: {has}")  # type: ignore[attr-defined]
    elif not known:
        low, high = int(indices.min()), int(indices.max())
        raise UsageError(f"indices run from {low} to {high}; {has}")
    return indices


def to_latent(latent: Tensor, *, grid: Grid | None, channels: int) -> Tensor:
    """A latent (b, c, h, w) or (b, n, c) as (b, c, h, w).

    Raises:
        UsageError: another shape, or n that does not fill the grid.
    """
    if latent.ndim == 3:
        latent = rearrange(_unflatten(latent, grid), "b h w c -> b c h w")
    if latent.ndim != 4 or latent.shape[1] != channels:
        raise UsageError(
            f"the latent has shape {tuple(latent.shape)}; expected (b, {channels}, h, w) or "
            f"(b, n, {channels})"
        )
    return latent


def _unflatten(flat: Tensor, grid: Grid | None) -> Tensor:
    """Positions (b, n, ...) as (b, h, w, ...); without a grid, a square."""
    n = flat.shape[1]
    h, w = grid or (round(n**0.5), round(n**0.5))
    if h * w != n or not n:
        shape = "a square" if grid is None else f"{h} x {w}"
        raise UsageError(f"{n} positions do not fill {shape}; pass grid=(h, w)")
    return rearrange(flat, "b (h w) ... -> b h w ...", h=h)

"""What an edit keeps of an image, and what it regenerates.

A mask snaps outwards to tokens. Tokens to regenerate start hidden; others keep their indices and
their exact latents z, so that the decoder sees one continuous latent everywhere. The decoder's
attention is global, hence pixels outside the snapped mask are put back at the end, bit for bit.
# not in paper: it has no editing. The published release's inputs for it are start indices, known
residuals and their mask; unlike there, images of one batch may have unequal masks.

Shapes: b images, H W pixels, h w tokens, c latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange, reduce, repeat
from PIL import Image
from torch import Tensor

from dcar.masking import lowest
from dcar.randomness import keyed_generator
from dcht.errors import UsageError
from dcht.flatten import flatten
from dcht.images import covering
from dcht.ranges import require_whole
from dcht.tokenizer import Tokenizer

Mask = Image.Image | np.ndarray
"""Bright or True where the image is to change, as in diffusers. Of an image, bright is 128 and
above of 255, after what is done to every image (`dcht.flatten`): 16 bits become 8, transparency
is put on white (a hole is to change), colors become their gray."""
CHOICE = 1
"""Third part of the key that chooses the tokens of a variation; the sampler's have two."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """An image, and where it is to change."""

    image: Image.Image
    """RGB, its sides multiples of 32."""
    region: np.ndarray
    """(h, w) boolean over the result: tokens whose pixels may change, the new ones among them."""
    left: int = 0
    """Where the image lies in the result, in pixels..."""
    top: int = 0
    """...multiples of 32."""
    strength: float = 1.0
    """Share of the region's tokens that is regenerated, in (0, 1]; the others guide them."""

    def __post_init__(self) -> None:
        """Refuse a share that is none, and an edit of nothing."""
        if not isinstance(self.strength, Real) or not 0 < self.strength <= 1:
            raise UsageError(f"strength is {self.strength}; it must be above 0 and at most 1")
        if not self.region.any():
            raise UsageError(
                "nothing to change: the mask is nowhere bright (128 and above of 255) or True"
            )


def inpaint(
    image: Image.Image, mask: Mask | None, *, patch: int = 32, strength: float = 1.0
) -> Edit:
    """An edit of the tokens that a mask touches; None is the whole image.

    Raises:
        UsageError: a side that is not a multiple of `patch`, a mask of another size or of nothing,
            a bad strength, or what is neither an image nor a mask.
    """
    image = _as_rgb(image)
    h, w = token_grid(image.height, image.width, patch)
    if mask is None:
        region = np.ones((h, w), bool)
    else:
        pixels = _binary(mask)
        if pixels.shape != (image.height, image.width):
            raise UsageError(
                f"the mask is {pixels.shape[1]} x {pixels.shape[0]}, the image {image.width} x "
                f"{image.height}; they must be of one size"
            )
        region = reduce(pixels, "(h p) (w q) -> h w", "max", p=patch, q=patch)
    return Edit(image=image, region=region, strength=strength)


def outpaint(
    image: Image.Image,
    *,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    patch: int = 32,
) -> Edit:
    """An edit that generates new pixels around an image.

    Raises:
        UsageError: a side or a margin that is not a multiple of `patch`, or no margin at all.
    """
    image = _as_rgb(image)
    h, w = token_grid(image.height, image.width, patch)
    margins = {"left": left, "right": right, "top": top, "bottom": bottom}
    for name, margin in margins.items():
        _check_multiple(name, margin, patch, least=0)
    if not any(margins.values()):
        raise UsageError(
            "nothing to generate: give left, right, top or bottom, for example left=128"
        )
    region = np.ones((h + (top + bottom) // patch, w + (left + right) // patch), bool)
    region[top // patch : top // patch + h, left // patch : left // patch + w] = False
    return Edit(image=image, region=region, left=left, top=top)


class Canvas(NamedTuple):
    """A batch of edits, encoded."""

    edits: Sequence[Edit]
    regenerate: Tensor
    """(b, h, w) boolean: the tokens that are regenerated."""
    indices: Tensor
    """(b, h, w), of the images; any where there is none."""
    latent: Tensor
    """(b, c, h, w): z of the images, zero where there is none."""

    def start(self, mask_id: int) -> Tensor:
        """The indices (b, h, w) that sampling starts from, `mask_id` where it is to generate."""
        return self.indices.masked_fill(self.regenerate, mask_id)

    def keep(self, latent: Tensor) -> Tensor:
        """A latent (b, c, h, w) with the images' own z where nothing is generated."""
        return torch.where(rearrange(self.regenerate, "b h w -> b 1 h w"), latent, self.latent)

    def paste(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Images of the result with the images' own pixels outside the regions."""
        return [_paste(edit, image) for edit, image in zip(self.edits, images, strict=True)]


def encode_edits(
    tokenizer: Tokenizer, edits: Sequence[Edit], *, seed: int, numbers: Sequence[int]
) -> Canvas:
    """Encode a batch of edits, whose results are of one size.

    Args:
        tokenizer: the image tokenizer.
        edits: one an image.
        seed: not negative.
        numbers: of the images; which tokens a strength below 1 picks depends on (seed, number).
    """
    device = next(tokenizer.parameters()).device
    patch, channels = tokenizer.config.downsampling, tokenizer.config.latent_channels
    h, w = edits[0].region.shape
    indices = torch.zeros(len(edits), h, w, dtype=torch.long, device=device)
    latent = torch.zeros(len(edits), channels, h, w, device=device)
    # Image by image, and each one once: what is kept does not depend on the batch.
    encoded: dict[int, tuple[Tensor, Tensor]] = {}
    for row, edit in enumerate(edits):
        if id(edit.image) not in encoded:
            z = tokenizer.encode(edit.image)
            encoded[id(edit.image)] = (tokenizer.quantize(z).indices[0], z[0])
        found, z = encoded[id(edit.image)]
        y, x = edit.top // patch, edit.left // patch
        rows, columns = slice(y, y + z.shape[1]), slice(x, x + z.shape[2])
        indices[row, rows, columns] = found
        latent[row, :, rows, columns] = z
    regenerate = [_choose(edit, seed, number) for edit, number in zip(edits, numbers, strict=True)]
    return Canvas(edits, torch.stack(regenerate).to(device), indices, latent)


def _choose(edit: Edit, seed: int, number: int) -> Tensor:
    """The tokens (h, w) of the region that are regenerated."""
    region = torch.from_numpy(edit.region)
    if edit.strength == 1:
        return region
    count = max(1, round(edit.strength * int(region.sum())))
    scores = torch.rand(region.shape, generator=keyed_generator(seed, number, CHOICE))
    scores = rearrange(scores.masked_fill(~region, torch.inf), "h w -> 1 (h w)")
    chosen = lowest(scores, torch.tensor([count]))
    return rearrange(chosen, "1 (h w) -> h w", h=region.shape[0])


def snapped_mask(edit: Edit, patch: int) -> Image.Image:
    """The pixels that may change, white, as an image of the result's size."""
    pixels = repeat(edit.region, "h w -> (h p) (w q)", p=patch, q=patch)
    return Image.fromarray(pixels.astype(np.uint8) * 255)


def _paste(edit: Edit, image: Image.Image) -> Image.Image:
    original = Image.new("RGB", image.size)
    original.paste(edit.image, (edit.left, edit.top))
    patch = image.height // edit.region.shape[0]
    return Image.composite(image, original, snapped_mask(edit, patch))


def _as_rgb(image: Image.Image) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise UsageError(f"the image is a {type(image).__name__}; give a PIL image")
    return flatten(image)


def _binary(mask: Mask) -> np.ndarray:
    """A mask as (H, W) boolean.

    Raises:
        UsageError: neither an image nor a boolean array of two dimensions.
    """
    if isinstance(mask, Image.Image):
        return np.asarray(flatten(mask).convert("L")) >= 128
    if not isinstance(mask, np.ndarray):
        raise UsageError(f"the mask is a {type(mask).__name__}; give an image, or booleans (H, W)")
    if mask.ndim != 2 or mask.dtype != bool:
        raise UsageError(
            f"the mask is an array of {mask.dtype} and shape {mask.shape}; give an image, or "
            "booleans (H, W)"
        )
    return mask


def fit_mask(mask: Mask, size: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) of an image, for that image brought to `size` (width, height) by `resize_crop`.

    A pixel of the result is True where any bright one of the mask lies within it, however thin: a
    resampled line of one pixel would be darker than bright. Edges that fall between two pixels of
    the result stay there.
    """
    bright = _binary(mask)
    covered, corner = covering((bright.shape[1], bright.shape[0]), size)
    for axis, (side, full, first, before) in enumerate(
        zip(size[::-1], covered[::-1], corner[::-1], bright.shape, strict=True)
    ):
        # Pixel k of the result shows what lies between k and k + 1, in fractions of `full`.
        edges = (first + np.arange(side + 1)) * before
        starts, ends = edges[:-1] // full, -(-edges[1:] // full)
        sums = np.insert(np.cumsum(bright, axis=axis, dtype=np.int32), 0, 0, axis=axis)
        bright = np.take(sums, ends, axis) > np.take(sums, starts, axis)
    return bright


def token_grid(height: int, width: int, patch: int = 32) -> tuple[int, int]:
    """The tokens (h, w) of an image.

    Raises:
        UsageError: a side that is not a multiple of `patch`.
    """
    _check_multiple("height", height, patch, least=patch)
    _check_multiple("width", width, patch, least=patch)
    return height // patch, width // patch


def _check_multiple(name: str, pixels: int, patch: int, *, least: int) -> None:
    require_whole(**{name: pixels})
    if pixels < least or pixels % patch:
        nearest = max(least, round(pixels / patch) * patch)
        raise UsageError(f"{name} {pixels} is not a multiple of {patch}; the nearest is {nearest}")

"""The crops of the named protocols (`dcar_eval.metrics.protocol.Crop`), pixel for pixel."""

from __future__ import annotations

from functools import partial

from PIL import Image

from dcar_eval.metrics.protocol import Crop
from dcht.errors import UsageError
from dcht.images import Fitting, resize, resize_crop

SHORT_SIDE = {
    Crop.short_side_bicubic: Image.Resampling.BICUBIC,
    Crop.short_side_bilinear: Image.Resampling.BILINEAR,
}


def cropping(crop: Crop, size: tuple[int, int]) -> Fitting:
    """The function that brings an RGB image to a size (width, height) by this crop.

    Raises:
        UsageError: the crop makes squares, and `size` is none.
    """
    if crop is Crop.cover:
        return resize_crop
    if size[0] != size[1]:
        raise UsageError(f"size {size[0]}x{size[1]} is not square; this protocol crops squares")
    return adm_crop if crop is Crop.adm else partial(short_side_crop, crop=crop)


def adm_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Halve by box while twice as large, cover by bicubic, crop the center (Dhariwal 2021)."""
    side = size[0]
    while min(image.size) >= 2 * side:
        image = resize(image, (image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    covered = (round(image.width * scale), round(image.height * scale))
    image = resize(image, covered)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def short_side_crop(image: Image.Image, size: tuple[int, int], *, crop: Crop) -> Image.Image:
    """What torchvision's `Resize(side)` and `CenterCrop(side)` do to a Pillow image.

    The long side is cut off to a whole number, and the corner rounded, halves to even.
    """
    side, short = size[0], min(image.size)
    width, height = (int(side * length / short) for length in image.size)
    image = resize(image, (width, height), SHORT_SIDE[crop])
    left, top = round((width - side) / 2), round((height - side) / 2)
    return image.crop((left, top, left + side, top + side))

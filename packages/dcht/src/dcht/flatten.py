"""Any Pillow image as 8-bit RGB, upright, on white: what every reader of images and masks sees.

Sixteen bits become eight by dividing by 257, which maps 65535 to 255; a TIFF may have twelve of
them, or say that white is zero, which Pillow heeds up to eight bits alone. Transparency is put on
white, whether it is a channel, a palette's or a PNG's color key, at every bit depth of PNG. Pillow
reads a color key in the file's own depth and the pixels in eight bits: where the two differ, the
key is compared here.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from dcht.errors import UsageError

SHALLOW = {"L;2": 85, "L;4": 17}
"""Pillow's names of gray in 2 and 4 bits, and the factor to 8 bits."""
DEEP = "RGB;16B"
"""RGB in 16 bits, of which Pillow keeps the high byte..."""
LOW_BYTES = "RGB;16L"
"""...and, asked for the other byte order, the low one."""
BITS, PHOTOMETRIC = 258, 262
"""Tags of a TIFF: bits of a sample, and what a sample of 0 is."""
WHITE_IS_ZERO = 0


def flatten(image: Image.Image) -> Image.Image:
    """An image as RGB, turned as its EXIF says, transparency put on white.

    Best given as `Image.open` returns it: of an image that Pillow has decoded, a color key of 2, 4
    or 16 bits can no longer be compared.

    Raises:
        UsageError: a mode without a range of its own (a file of 32 bits, floating point).
    """
    transparent = _color_key(image)  # before it is decoded
    image.load()
    if image.mode.startswith("I"):
        flat = Image.fromarray(_deep_gray(image)).convert("RGB")
    elif image.mode == "F":
        raise UsageError("an image of mode F (floating point) has no range; convert it to L or RGB")
    elif transparent is None and image.has_transparency_data:
        colors = image.convert("RGBA")
        white = Image.new("RGBA", colors.size, "white")
        flat = Image.alpha_composite(white, colors).convert("RGB")
    else:
        flat = image.convert("RGB")
    if transparent is not None:
        flat.paste("white", mask=Image.fromarray(transparent))
    flat.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return ImageOps.exif_transpose(flat)


def _deep_gray(image: Image.Image) -> np.ndarray:
    """Gray of more than eight bits in eight (H, W)."""
    if image.mode == "I" and image.format is not None:  # a 16-bit PNG is I;16
        raise UsageError(
            f"a {image.format} of mode I (32 bits, or signed) has no range; convert it to 8 bits, "
            "or to 16 without a sign"
        )
    pixels = np.asarray(image)
    if pixels.size and (pixels.min() < 0 or pixels.max() > 65535):
        raise UsageError(f"an image of mode {image.mode} has values outside 0 to 65535")
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    brightest = 2 ** tags.get(BITS, (16,))[0] - 1
    pixels = (pixels / (brightest / 255)).round().astype(np.uint8)
    return 255 - pixels if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else pixels


def _color_key(image: Image.Image) -> np.ndarray | None:
    """Where (H, W) a PNG's color key is met, if Pillow does not see that itself."""
    key = image.info.get("transparency")
    if key is None or isinstance(key, bytes):
        return None
    tiles = getattr(image, "tile", None)  # of an image that is not decoded yet
    coding = tiles[0][3] if tiles else None
    if image.mode.startswith("I;16"):
        return np.asarray(image) == key
    if coding in SHALLOW:
        return np.asarray(image) == key * SHALLOW[coding]
    if coding == DEEP:
        low = _low_bytes(image)
        return (np.asarray(image).astype(np.int32) * 256 + low == np.array(key)).all(axis=2)
    return None


def _low_bytes(image: Image.Image) -> np.ndarray:
    """The low bytes (H, W, 3) of RGB in 16 bits, from a second decoding of the file."""
    file = image.fp  # type: ignore[attr-defined]
    position = file.tell()
    file.seek(0)
    content = io.BytesIO(file.read())
    file.seek(position)
    with Image.open(content, formats=("PNG",)) as again:
        again.tile = [tile._replace(args=LOW_BYTES) for tile in again.tile]  # type: ignore[attr-defined]
        return np.asarray(again)

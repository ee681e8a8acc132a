"""Images with captions that are encoded on the fly, through the run's image tokenizer."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import ExifTags, Image
from torch import Tensor

from dcar.data.captions import Captions, name_a_side, read_captions, side_note
from dcar.data.image_sets import ImageEntry, ImageSet
from dcar.train_config import DataConfig
from dcht.config import parse_size
from dcht.data.contents import contents_sha256
from dcht.errors import UsageError
from dcht.images import FORMATS, resize_crop, to_bytes
from dcht.tokenizer import Tokenizer

Size = tuple[int, int]
"""(width, height) in pixels."""
LYING = (5, 6, 7, 8)
"""Orientations in EXIF under which width and height change places."""
TURNED = ("TIFF",)
"""Formats that Pillow turns itself: what its header's size says of them depends on its version."""


class EncodedImages:
    """Images as latents that are made each time they are read.

    With `flip`, the mirror images are rows of their own, after all the others.
    """

    def __init__(
        self,
        root: str,
        found: ImageSet,
        config: DataConfig,
        tokenizer: Tokenizer,
        *,
        read: Callable[[Sequence[dict[str, Any]], object], Captions] = read_captions,
    ) -> None:
        """Choose a size for each image.

        Raises:
            UsageError: captions are missing, a size is not a multiple of the tokenizer's factor,
                or, with buckets, an image cannot be read.
        """
        factor = tokenizer.config.downsampling
        sizes = [parse_size(size) for size in config.buckets] or [(config.size, config.size)]
        if uneven := [side for size in sizes for side in size if side % factor]:
            raise UsageError(f"data.size {uneven[0]} is not a multiple of {factor}")
        self.root = root
        self.tokenizer = tokenizer
        self._images = found.images
        captions = read([image.row for image in found.images], root)
        self._sizes = [
            sizes[0] if len(sizes) == 1 else nearest(_shape(image), sizes) for image in found.images
        ]
        count = len(found.images)
        self._shown = list(range(count))
        self.notes = list(found.notes)
        if config.flip:
            mirrored = [n for n, texts in enumerate(captions.texts) if not name_a_side(texts)]
            self._shown += mirrored
            self.notes += side_note(root, count - len(mirrored))
        self._first_mirrored = count
        self.captions = captions.chosen(self._shown)
        self.grids = [
            (height // factor, width // factor)
            for width, height in (self._sizes[number] for number in self._shown)
        ]

    def contents(self) -> str:
        """A hash of the images' names and bytes (of a very large set: see `dcht.data.contents`)."""
        entries = [image.entry for image in self._images]
        return contents_sha256([(entry.name, entry.image) for entry in entries if entry.image])

    @torch.no_grad()
    def read(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Indices (b, h, w) int64 and residual (b, c, h, w) fp32 of images of one grid.

        Raises:
            UsageError: an image cannot be read.
        """
        device = next(self.tokenizer.parameters()).device
        pixels = torch.stack([self._pixels(row) for row in rows]).to(device)
        latents = self.tokenizer.tokenize(pixels)
        return latents.indices, latents.residual

    def _pixels(self, row: int) -> Tensor:
        number = self._shown[row]
        pixels = to_bytes(resize_crop(_open(self._images[number]), self._sizes[number]))
        return pixels.flip(-1) if row >= self._first_mirrored else pixels


def nearest(shape: Size, sizes: Sequence[Size]) -> Size:
    """The size whose ratio of sides is nearest to an image's; the first of those as near."""
    return min(sizes, key=lambda size: abs(math.log(size[0] / size[1] * shape[1] / shape[0])))


def _open(image: ImageEntry) -> Image.Image:
    try:
        return image.entry.open()
    except UsageError as error:
        raise UsageError(
            f"{image.entry.name}: {error}; take it out, or let dcht encode leave it out"
        ) from None


def _shape(listed: ImageEntry) -> Size:
    """(width, height), upright, from the header alone."""
    assert listed.entry.image is not None
    with warnings.catch_warnings():
        # A bomb is refused where the image is opened.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(listed.entry.image.read()), formats=FORMATS) as image:
                if image.format not in TURNED:
                    lying = image.getexif().get(ExifTags.Base.Orientation, 1) in LYING
                    return (image.height, image.width) if lying else image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            pass
        return _open(listed).size

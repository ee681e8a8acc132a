"""Pictures with captions that are encoded on the fly, through the run's image tokenizer."""

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
from dcar.data.image_sets import Picture, PictureSet
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


class EncodedPictures:
    """Pictures as latents that are made each time they are read.

    With `flip`, the mirror images are rows of their own, after all the others.
    """

    def __init__(
        self,
        root: str,
        found: PictureSet,
        config: DataConfig,
        tokenizer: Tokenizer,
        *,
        read: Callable[[Sequence[dict[str, Any]], object], Captions] = read_captions,
    ) -> None:
        """Choose a size for each picture.

        Raises:
            UsageError: captions are missing, a size is not a multiple of the tokenizer's factor,
                or, with buckets, a picture cannot be read.
        """
        factor = tokenizer.config.downsampling
        sizes = [parse_size(size) for size in config.buckets] or [(config.size, config.size)]
        if odd := [side for size in sizes for side in size if side % factor]:
            raise UsageError(f"data.size {odd[0]} is not a multiple of {factor}")
        self.root = root
        self.tokenizer = tokenizer
        self._pictures = found.pictures
        captions = read([picture.row for picture in found.pictures], root)
        self._sizes = [
            sizes[0] if len(sizes) == 1 else nearest(_shape(picture), sizes)
            for picture in found.pictures
        ]
        count = len(found.pictures)
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
        entries = [picture.entry for picture in self._pictures]
        return contents_sha256([(entry.name, entry.image) for entry in entries if entry.image])

    @torch.no_grad()
    def read(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Indices (b, h, w) int64 and residual (b, c, h, w) fp32 of images of one grid.

        Raises:
            UsageError: a picture cannot be read.
        """
        device = next(self.tokenizer.parameters()).device
        pixels = torch.stack([self._pixels(row) for row in rows]).to(device)
        latents = self.tokenizer.tokenize(pixels)
        return latents.indices, latents.residual

    def _pixels(self, row: int) -> Tensor:
        number = self._shown[row]
        pixels = to_bytes(resize_crop(_open(self._pictures[number]), self._sizes[number]))
        return pixels.flip(-1) if row >= self._first_mirrored else pixels


def nearest(shape: Size, sizes: Sequence[Size]) -> Size:
    """The size whose ratio of sides is nearest to a picture's; the first of those as near."""
    return min(sizes, key=lambda size: abs(math.log(size[0] / size[1] * shape[1] / shape[0])))


def _open(picture: Picture) -> Image.Image:
    try:
        return picture.entry.open()
    except UsageError as error:
        raise UsageError(
            f"{picture.entry.name}: {error}; take it out, or let dcht encode leave it out"
        ) from None


def _shape(picture: Picture) -> Size:
    """(width, height), upright, from the header alone."""
    assert picture.entry.image is not None
    with warnings.catch_warnings():
        # A bomb is refused where the picture is opened.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(picture.entry.image.read()), formats=FORMATS) as image:
                lying = image.getexif().get(ExifTags.Base.Orientation, 1) in LYING
                return (image.height, image.width) if lying else image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return _open(picture).size

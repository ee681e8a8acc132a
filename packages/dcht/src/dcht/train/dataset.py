"""Images as an endless stream of crops, a pure function of (seed, position).

Position p of the stream is image p mod n of epoch p div n, in that epoch's order, with the crop
and the mirroring that p samples: a run resumes anywhere, with any number of workers.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dcht.data.contents import contents_sha256
from dcht.data.entries import Entry
from dcht.data.folders import is_folder
from dcht.data.sources import list_inputs
from dcht.errors import UsageError, printable
from dcht.images import ImageError, resize
from dcht.train_config import DataConfig


class Split(NamedTuple):
    """What a run trains on, and what it holds out."""

    training: list[Entry]
    validation: list[Entry]
    """`num_val` images, evenly spread over all of them, sorted by name."""
    left_out: list[Entry]
    """Inputs that show by name alone that they cannot be read, each with its `problem`."""


def split_inputs(config: DataConfig, *, out: str | Path | None = None) -> Split:
    """The images that `config.root` holds, as `dcht encode` reads it.

    Where `num_val` is more than half of the images, a quarter is for validation.

    Args:
        config: where they are.
        out: the run's folder, which is no input where it lies among the images.

    Raises:
        UsageError: there is no such source, it is `out` itself, or it has fewer than two images.
    """
    if out is not None and is_folder(config.root, out):
        raise UsageError(f"out={out} holds the images themselves (data.root); choose another out=")
    inputs = list_inputs(config.root, follow_links=config.follow_links, out=out)
    images = [entry for entry in inputs if entry.image is not None]
    left_out = [entry for entry in inputs if entry.image is None]
    if len(images) < 2:
        reason = f" ({left_out[0].name}: {left_out[0].problem})" if left_out else ""
        raise ImageError(
            f"{config.root} has {len(images)} images{reason}; training needs at least 2, one of "
            "them for validation"
        )
    num_val = config.num_val if 2 * config.num_val <= len(images) else max(1, len(images) // 4)
    kept = {round(k * len(images) / num_val) for k in range(num_val)}
    training = [image for index, image in enumerate(images) if index not in kept]
    return Split(training, [images[index] for index in sorted(kept)], left_out)


def image_contents(images: Sequence[Entry]) -> str:
    """A hash of what images are, in any order: their names and their bytes."""
    named = sorted((entry.name, entry.image) for entry in images if entry.image is not None)
    return contents_sha256(named)


class Crops(Dataset[Tensor]):
    """Crops by key (index of the image, text to sample from); None as text is the center crop."""

    def __init__(self, images: list[Entry], config: DataConfig, *, cache: bool) -> None:
        self.images = images
        self.config = config
        self.pixels: list[np.ndarray | None] | None = None
        """Of each image, None for one that cannot be read: the stream is that without a cache."""
        if cache:
            with ThreadPoolExecutor(max(1, config.workers)) as pool:
                self.pixels = list(pool.map(self._read_or_none, images))

    def __len__(self) -> int:
        return len(self.images)

    def require_readable(self) -> None:
        """Have one image read, so that a source in which none can be is known at once.

        Raises:
            ImageError: it is one.
        """
        self[0, None]

    def _read_or_none(self, entry: Entry) -> np.ndarray | None:
        """Pixels (h, w, 3) with the short side resized; None, after saying so, if unreadable."""
        try:
            image = entry.open()
            scale = self.config.size / min(image.size)
            width, height = (max(self.config.size, round(side * scale)) for side in image.size)
            if (width, height) != image.size:
                image = resize(image, (width, height))
        except ImageError as error:
            print(f"skipped {printable(entry.name)}: {printable(error)}", file=sys.stderr)
            return None
        return np.array(image)

    def _pixels(self, index: int) -> np.ndarray:
        kept = self.pixels
        for place in range(index, index + len(self)):
            other = place % len(self)
            pixels = self._read_or_none(self.images[other]) if kept is None else kept[other]
            if pixels is not None:
                return pixels  # of the next image that can be read
        raise ImageError(
            f"no image in {self.config.root} can be read, of {len(self.images)} tried; training "
            "and validation each need one"
        )

    def __getitem__(self, key: tuple[int, str | None]) -> Tensor:
        """The crop as uint8 (3, crop, crop)."""
        index, text = key
        pixels = self._pixels(index)
        side = self.config.crop
        room = (pixels.shape[0] - side, pixels.shape[1] - side)
        draw = random.Random(text)
        if self.config.random_crop and text is not None:
            top, left = (draw.randint(0, free) for free in room)
        else:
            top, left = (free // 2 for free in room)
        crop = pixels[top : top + side, left : left + side]
        if self.config.flip and text is not None and draw.random() < 0.5:
            crop = crop[:, ::-1]
        return torch.from_numpy(rearrange(crop, "h w c -> c h w").copy())


def stream_keys(num_images: int, seed: int, start: int, stop: int) -> Iterator[tuple[int, str]]:
    """Keys of the stream's positions from `start` up to `stop`."""
    epoch, order = -1, range(0)
    for position in range(start, stop):
        if position // num_images != epoch:
            epoch = position // num_images
            order = list(range(num_images))
            random.Random(f"{seed} epoch {epoch}").shuffle(order)
        yield order[position % num_images], f"{seed} position {position}"


def load_batches(
    crops: Crops,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    num_steps: int,
    rank: int = 0,
    num_ranks: int = 1,
) -> Iterator[Tensor]:
    """Batches (b, 3, H, W) uint8 of steps `first_step` up to `first_step + num_steps`.

    `batch_size` is that of all ranks together and a multiple of their number; a rank gets its
    slice, so that the ranks' batches in order are the batch that one rank would get.
    """
    stream = stream_keys(
        len(crops), seed, first_step * batch_size, (first_step + num_steps) * batch_size
    )
    ours = batch_size // num_ranks
    keys = (key for index, key in enumerate(stream) if index % batch_size // ours == rank)
    workers = 0 if crops.pixels is not None else crops.config.workers
    return iter(
        DataLoader(
            crops,
            ours,
            sampler=keys,  # type: ignore[arg-type]  # an iterable of keys is all it needs
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
        )
    )


def to_images(crops: Tensor, device: torch.device) -> Tensor:
    """uint8 (b, 3, H, W) to fp32 in [-1, 1] on the device, laid out channels last."""
    moved = crops.to(device, non_blocking=True, memory_format=torch.channels_last)
    return moved.float() / 127.5 - 1

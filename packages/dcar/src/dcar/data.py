"""Training data: images as latents, with their captions, in an order that a seed decides.

Sample number s of a run is row `stream.row(s)` of the data: epoch after epoch, each a permutation
of its own. Everything is a function of (seed, s), so a run resumes exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dcar.randomness import keyed_generator, keyed_seed
from dcar.train_config import DataConfig, DataKind
from dcht.encode import read_row
from dcht.errors import CheckpointError, UsageError
from dcht.images import list_images, open_image, resize_crop, to_tensor
from dcht.latents import LatentsStore
from dcht.tokenizer import Tokenizer

IN_MEMORY = 4 << 30
"""Bytes of latents up to which a store is read into memory once."""
MEASURED = 4096
"""Images from which the residual's standard deviation is measured where it is not recorded."""
PERMUTATION, CAPTION = 1, 2


class Images(NamedTuple):
    """indices (b, h, w) int64 and residual (b, c, h, w) fp32 of some images."""

    indices: Tensor
    residual: Tensor


class Data(Protocol):
    """What training needs of its data."""

    captions: list[list[str]]
    """At least one for each image."""
    grid: tuple[int, int]
    """(h, w)."""

    def read(self, rows: Sequence[int]) -> Images:
        """The latents of some images."""
        ...


class LatentsData:
    """A store that `dcht encode` wrote; random access, no tokenizer in the loop."""

    def __init__(self, root: str, tokenizer: Tokenizer) -> None:
        """Open a store.

        Raises:
            CheckpointError: it was made by another tokenizer.
            UsageError: there is none, it is not finished, or captions are missing.
        """
        self.store = LatentsStore(root)
        plan = self.store.plan
        if plan.tokenizer_sha256 != tokenizer.sha256:
            raise CheckpointError(
                f"{root} was encoded by tokenizer {plan.tokenizer_sha256}, not by "
                f"{tokenizer.sha256}; encode again, or set tokenizer_ckpt"
            )
        self.grid = (plan.latent_height, plan.latent_width)
        self.captions = _captions(self.store.rows, root)
        bytes_each = plan.latent_height * plan.latent_width * (8 + 2 * plan.latent_channels)
        small = bytes_each * len(self.store) <= IN_MEMORY
        self._all = Images(*self.store.load_all()) if small else None

    def read(self, rows: Sequence[int]) -> Images:
        """The latents of some images."""
        if self._all is not None:
            chosen = torch.tensor(rows)
            return Images(self._all.indices[chosen], self._all.residual[chosen].float())
        indices, residual = zip(*(self.store.read(row) for row in rows), strict=True)
        return Images(torch.stack(indices), torch.stack(residual))


class FolderData:
    """A folder of images with captions in `.txt` beside them, encoded on the fly."""

    def __init__(self, root: str, size: int, tokenizer: Tokenizer) -> None:
        """List a folder.

        Raises:
            UsageError: no images, captions missing, or a size that is not a multiple of 32.
        """
        factor = tokenizer.config.downsampling
        if size % factor:
            raise UsageError(f"data.size {size} is not a multiple of {factor}")
        self.files = list_images(root)
        if not self.files:
            raise UsageError(f"{root} holds no images")
        self.captions = _captions([read_row(file, Path(root)) for file in self.files], root)
        self.grid = (size // factor, size // factor)
        self.size = size
        self.tokenizer = tokenizer

    @torch.no_grad()
    def read(self, rows: Sequence[int]) -> Images:
        """The latents of some images."""
        size = (self.size, self.size)
        pixels = [to_tensor(resize_crop(open_image(self.files[row]), size)) for row in rows]
        device = next(self.tokenizer.parameters()).device
        latents = self.tokenizer.tokenize(torch.stack(pixels).to(device))
        return Images(latents.indices, latents.residual)


class Stream:
    """The endless order of training samples over `count` images."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed = seed
        self.count = count
        self._order = lru_cache(maxsize=2)(self._permute)

    def _permute(self, epoch: int) -> list[int]:
        generator = keyed_generator(self.seed, epoch, PERMUTATION)
        return torch.randperm(self.count, generator=generator).tolist()

    def row(self, sample: int) -> int:
        """The image that sample number `sample` shows."""
        epoch, position = divmod(sample, self.count)
        return self._order(epoch)[position]

    def caption(self, sample: int, captions: list[str]) -> str:
        """The caption that goes with it, one drawn each time."""
        if len(captions) == 1:
            return captions[0]
        return captions[keyed_seed(self.seed, sample, CAPTION) % len(captions)]


def open_data(config: DataConfig, tokenizer: Tokenizer) -> Data:
    """The data that a config describes."""
    if config.kind is DataKind.latents:
        return LatentsData(config.root, tokenizer)
    return FolderData(config.root, config.size, tokenizer)


def residual_std(data: Data, tokenizer: Tokenizer) -> float:
    """Standard deviation of the residual: the tokenizer's, else measured on the data."""
    if tokenizer.config.residual_std is not None:
        return tokenizer.config.residual_std
    return float(data.read(range(min(MEASURED, len(data.captions)))).residual.std())


def _captions(rows: Sequence[dict], root: str) -> list[list[str]]:
    captions = [row.get("captions") or [row["caption"]] for row in rows]
    missing = [row["file"] for row, texts in zip(rows, captions, strict=True) if None in texts]
    if missing:
        raise UsageError(
            f"{root}: {len(missing)} of {len(rows)} images have no caption, for instance "
            f"{missing[0]}; put one in a .txt beside each image"
        )
    return captions

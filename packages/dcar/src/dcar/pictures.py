"""Pictures with captions that are encoded on the fly, through the run's image tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dcar.captions import read_captions
from dcar.train_config import DataConfig, DataKind
from dcht.errors import UsageError
from dcht.images import resize_crop, to_tensor
from dcht.inputs import list_inputs
from dcht.tokenizer import Tokenizer


class EncodedPictures:
    """Pictures as latents that are made each time they are read."""

    def __init__(
        self, root: Path, kind: DataKind, config: DataConfig, tokenizer: Tokenizer
    ) -> None:
        """List the pictures.

        Raises:
            UsageError: no images, captions missing, or a size that is not a multiple of 32.
        """
        factor = tokenizer.config.downsampling
        if config.size % factor:
            raise UsageError(f"data.size {config.size} is not a multiple of {factor}")
        self.entries = [entry for entry in list_inputs(root) if not entry.problem]
        self.captions = read_captions([entry.row() for entry in self.entries], root)
        self.grids = [(config.size // factor, config.size // factor)] * len(self.entries)
        self.size = config.size
        self.tokenizer = tokenizer

    @torch.no_grad()
    def read(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Indices (b, h, w) int64 and residual (b, c, h, w) fp32 of images of one grid."""
        size = (self.size, self.size)
        pixels = [to_tensor(resize_crop(self.entries[row].open(), size)) for row in rows]
        device = next(self.tokenizer.parameters()).device
        latents = self.tokenizer.tokenize(torch.stack(pixels).to(device))
        return latents.indices, latents.residual

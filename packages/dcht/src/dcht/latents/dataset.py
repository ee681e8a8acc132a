"""A store of latents as a torch dataset."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Dataset

from dcht.latents import LatentsStore


class LatentSample(NamedTuple):
    """An image of a store; samples are collated field by field."""

    indices: Tensor
    """(h, w) int64."""
    residual: Tensor
    """(c, h, w) fp32."""
    caption: str
    """The first one; empty where there is none."""
    file: str


class LatentDataset(Dataset[LatentSample]):
    """Random access to what `dcht encode` wrote, for a `DataLoader` with any number of workers.

    `store` gives what a sample leaves out: the plan, and whole rows. A store of both flips has
    every image twice in a row, as itself and mirrored.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a finished store.

        Raises:
            UsageError: there is none, or it is not finished.
            CheckpointError: it is damaged.
        """
        self.store = LatentsStore(folder)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> LatentSample:
        row = self.store.row(index)
        return LatentSample(*self.store.read(index), row.get("caption") or "", row["file"])

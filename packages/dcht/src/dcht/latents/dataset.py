"""A store of latents as a torch dataset."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, TypeAlias, overload

from torch import Tensor
from torch.utils.data import Dataset

from dcht.errors import UsageError
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


class ContinuousSample(NamedTuple):
    """An image of a store of continuous latents; samples are collated field by field."""

    latent: Tensor
    """(c, h, w) fp32, as the encoder gives it."""
    caption: str
    """The first one; empty where there is none."""
    file: str


Sample: TypeAlias = LatentSample | ContinuousSample | dict[str, Any]


class LatentDataset(Dataset[Sample]):
    """Random access to what `dcht encode` wrote, for a `DataLoader` with any number of workers.

    `store` gives what a sample leaves out: the plan, and whole rows. A store of both flips has
    every image twice in a row, as itself and mirrored.
    """

    def __init__(self, folder: str | Path, fields: Sequence[str] | None = None) -> None:
        """Open a finished store.

        Args:
            folder: the store.
            fields: of its rows (`label`, `caption`, `file`, or what else they have). Samples are
                then dictionaries of `indices`, `residual` and these, as they are stored, which is
                what the trainers of transformers and Lightning take; None: `LatentSample`. Of a
                tokenizer without a codebook it is `latent`, and `ContinuousSample`.

        Raises:
            UsageError: there is none, it is not finished, or a field is called like a tensor.
            CheckpointError: it is damaged.
        """
        self.store = LatentsStore(folder)
        self.fields = None if fields is None else list(fields)
        names = ("latent",) if self.store.continuous else ("indices", "residual")
        if taken := [name for name in self.fields or () if name in names]:
            raise UsageError(
                f"field {taken[0]!r} is the name of a tensor, which every sample has: leave it out "
                "of fields"
            )

    def __len__(self) -> int:
        return len(self.store)

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        """A sample, counted from the end where `index` is negative; of a slice, a list of them.

        Raises:
            IndexError: there is no such image.
            UsageError: its row lacks one of the `fields`.
        """
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"image {number} of {len(self)}")
        number %= len(self)
        row = self.store.row(number)
        row = row | {"caption": row.get("caption") or ""}
        if self.store.continuous:
            tensors = {"latent": self.store.read_latent(number)}
        else:
            tensors = dict(zip(("indices", "residual"), self.store.read(number), strict=True))
        if self.fields is None:
            kind = ContinuousSample if self.store.continuous else LatentSample
            return kind(**tensors, caption=row["caption"], file=row["file"])
        if missing := [name for name in self.fields if name not in row]:
            raise UsageError(
                f"{row['file']} has no field {missing[0]!r}; its row has {', '.join(sorted(row))}"
            )
        return tensors | {name: row[name] for name in self.fields}

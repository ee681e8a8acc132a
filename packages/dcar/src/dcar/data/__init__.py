"""Training data: images as latents, with their captions, from one source or several.

A source is a store of latents or images that are encoded on the fly (`dcar.data.encoded_images`).
Rows number the images of all sources, one source after the other. In which order training sees them
is for `dcar.data.order` to say.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dcar.data.captions import Captions, name_a_side, read_captions, read_labels, side_note
from dcar.data.encoded_images import EncodedImages
from dcar.data.image_sets import list_images
from dcar.train_config import DataConfig, DataKind, SourceConfig
from dcht.errors import UsageError
from dcht.files import file_sha256
from dcht.latents import MANIFEST, LatentsStore
from dcht.latents.maker import require_maker
from dcht.tokenizer import Tokenizer

IN_MEMORY = 4 << 30
"""Bytes of latents up to which a store is read into memory once."""
MEASURED, AT_ONCE = 4096, 64
"""Images from which an unrecorded standard deviation is measured, and how many are read at once."""

ReadRows = Callable[[Sequence[dict[str, Any]], object], Captions]
"""`read_captions` or `read_labels`."""
Grid = tuple[int, int]
"""(h, w) of an image's indices."""


class Images(NamedTuple):
    """indices (b, h, w) int64 and residual (b, c, h, w) fp32 of images of one grid."""

    indices: Tensor
    residual: Tensor


class DataSource(Protocol):
    """One source of images with captions."""

    root: str
    """Where it is."""
    captions: Captions
    grids: list[Grid]
    """One for each image."""
    notes: list[str]
    """Notes to print before the run."""

    def contents(self) -> str:
        """A hash of what its images are, captions aside."""
        ...

    def read(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Indices (b, h, w) int64 and residual (b, c, h, w) fp32 of images of one grid."""
        ...


@dataclass(frozen=True)
class Part:
    """The images of one source that have one grid."""

    grid: Grid
    rows: list[int]
    share: float
    """Of the samples of a run; those of all parts add up to 1."""


class Data:
    """All images of a run.

    Attributes:
        captions: of each image, at least one.
        caption_weights: how likely each caption is, for the images whose captions differ in that.
        parts: the images by source and grid.
        notes: what was left out, and why; a sentence each.
    """

    def __init__(
        self, sources: Sequence[DataSource], weights: Sequence[float] | None = None
    ) -> None:
        """Put sources together.

        Args:
            sources: at least one, each with at least one image.
            weights: shares of the samples, in proportion; None: every image is as likely.
        """
        self._sources = sources
        counts = [len(source.grids) for source in sources]
        self._starts = [0, *accumulate(counts)]
        self.captions: list[list[str]] = []
        self.caption_weights: dict[int, list[float]] = {}
        self._grids: list[Grid] = []
        self.parts: list[Part] = []
        self.notes = [note for source in sources for note in source.notes]
        shares = counts if weights is None else weights
        for source, share, start in zip(sources, shares, self._starts, strict=False):
            self.captions += source.captions.texts
            self._grids += source.grids
            for row, odds in source.captions.weights.items():
                self.caption_weights[start + row] = odds
            rows: dict[Grid, list[int]] = {}
            for row, grid in enumerate(source.grids):
                rows.setdefault(grid, []).append(start + row)
            for grid, chosen in rows.items():
                part_share = share / sum(shares) * len(chosen) / len(source.grids)
                self.parts.append(Part(grid, chosen, part_share))

    def __len__(self) -> int:
        return len(self._grids)

    def contents(self) -> dict[str, str]:
        """Hashes by what they are of: the images of each source, the captions, their weights."""
        images = {
            f"images of source {number} ({source.root})": source.contents()
            for number, source in enumerate(self._sources, start=1)
        }
        weights = sorted(self.caption_weights.items())
        return images | {"captions": sha256(self.captions), "caption weights": sha256([weights])}

    def grid(self, row: int) -> Grid:
        """(h, w) of an image's indices."""
        return self._grids[row]

    def read(self, rows: Sequence[int]) -> Images:
        """The latents of images of one grid, from whichever sources they are in."""
        owners = [bisect.bisect_right(self._starts, row) - 1 for row in rows]
        places: dict[int, list[int]] = {}
        for place, owner in enumerate(owners):
            places.setdefault(owner, []).append(place)
        found = [
            self._sources[owner].read([rows[place] - self._starts[owner] for place in chosen])
            for owner, chosen in places.items()
        ]
        back = torch.tensor([place for chosen in places.values() for place in chosen]).argsort()
        indices, residual = (torch.cat(tensors)[back] for tensors in zip(*found, strict=True))
        return Images(indices, residual)


class LatentSource:
    """A store that `dcht encode` wrote; random access, no tokenizer in the loop."""

    def __init__(
        self,
        root: str,
        tokenizer: Tokenizer,
        described: Sequence[dict[str, Any]] | None = None,
        *,
        read: ReadRows = read_captions,
    ) -> None:
        """Open a store.

        Args:
            root: the store.
            tokenizer: the one that encoded it, or one that differs in its decoder alone.
            described: rows with captions in place of the store's, joined by `file`.
            read: what of its rows the images are conditioned on.

        Raises:
            CheckpointError: it was made by another tokenizer.
            UsageError: there is none, it is not finished, or captions are missing.
        """
        self.root = root
        self.store = LatentsStore(root)
        plan = self.store.plan
        require_maker(tokenizer, plan, root, remedy="encode again, or set tokenizer_ckpt")
        rows = self.store.rows
        if described is not None:
            known = {row["file"]: row for row in described}
            rows = [known.get(row["file"], {}) | {"file": row["file"]} for row in rows]
        # A mirrored image is not what its caption says where that names a side.
        captions = read(rows, root)
        self._kept = [
            number
            for number, texts in enumerate(captions.texts)
            if not (self.store.is_flipped(number) and name_a_side(texts))
        ]
        if not self._kept:
            raise UsageError(f"{root} holds no images; look into its errors.jsonl")
        self.notes = side_note(root, len(rows) - len(self._kept))
        self.captions = captions.chosen(self._kept)
        self.grids = [(plan.latent_height, plan.latent_width)] * len(self._kept)
        bytes_each = plan.latent_height * plan.latent_width * (8 + 2 * plan.latent_channels)
        small = bytes_each * len(self.store) <= IN_MEMORY
        self._all = self.store.load_all() if small else None

    def contents(self) -> str:
        """The hash of its manifest, which has those of all its files."""
        return file_sha256(self.store.folder / MANIFEST)

    def read(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Indices (b, h, w) int64 and residual (b, c, h, w) fp32."""
        places = [self._kept[row] for row in rows]
        if self._all is not None:
            indices, residual = self._all
            chosen = torch.tensor(places)
            return indices[chosen], residual[chosen].float()
        indices, residual = zip(*(self.store.read(place) for place in places), strict=True)
        return torch.stack(indices), torch.stack(residual)


def sha256(rows: Iterable[Any]) -> str:
    """A hash of rows of JSON types, in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def open_data(config: DataConfig, tokenizer: Tokenizer, *, labels: bool = False) -> Data:
    """The data that a config describes; with `labels`, the names of classes are its captions.

    Raises:
        CheckpointError: a store of latents was made by another tokenizer.
        UsageError: a source is not there, is empty, or lacks captions or classes.
    """
    chosen = [config, *config.mixture]
    read = read_labels if labels else read_captions
    sources = [_open_source(source, config, tokenizer, read) for source in chosen]
    weights = [source.weight for source in chosen if source.weight is not None]
    return Data(sources, weights or None)


def _open_source(
    source: SourceConfig, config: DataConfig, tokenizer: Tokenizer, read: ReadRows
) -> DataSource:
    if source.kind is DataKind.latents:
        return LatentSource(source.root, tokenizer, read=read)
    found = list_images(source.root, source.kind, follow_links=source.follow_links)
    if source.latents is not None:
        rows = [image.row for image in found.images]
        stored = LatentSource(source.latents, tokenizer, rows, read=read)
        stored.notes = [*found.notes, *stored.notes, *_not_encoded(source.root, stored, rows)]
        return stored
    return EncodedImages(source.root, found, config, tokenizer, read=read)


def _not_encoded(root: str, source: LatentSource, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The sentence on images that a store of a folder does not have, if there are any."""
    there = {row["file"] for row in source.store.rows}
    absent = [row["file"] for row in rows if row["file"] not in there]
    if not absent:
        return []
    return [
        f"{root}: {len(absent)} of {len(rows)} images are not in {source.root} and are not shown, "
        f"for instance {absent[0]}; encode the folder again"
    ]


def residual_std(data: Data, tokenizer: Tokenizer) -> float:
    """Standard deviation of the residual: the tokenizer's, else measured on the data."""
    if tokenizer.config.residual_std is not None:
        return tokenizer.config.residual_std
    rows = max(data.parts, key=lambda part: part.share).rows[:MEASURED]
    parts = [
        data.read(rows[start : start + AT_ONCE]).residual.cpu()
        for start in range(0, len(rows), AT_ONCE)
    ]
    return float(torch.cat(parts).std())

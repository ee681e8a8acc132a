"""Latents on disk: what `dcht encode` writes and `dcar-train` reads.

A store is a folder:
  manifest.json              tokenizer hash, transform, resolution, counts; written last
  shard-NNNNN.safetensors    indices uint16 (n, h, w), residual float16 (n, c, h, w);
                             uint32 where there are more than 65,536 codes; of a tokenizer
                             without a codebook latent float16 (n, c, h, w) in place of both
  shard-NNNNN.jsonl          a row for each of the n, in order: file, caption, captions, ...
  errors.jsonl               a row for each input that was skipped: file, reason
Shard boundaries come from the sorted list of inputs alone, so a store's bytes do not depend on who
made which shard, or how often the work was interrupted. Nothing in it is a pickle.
`dcht.latents.writer` writes it, `dcht.latents.shards` opens its shards.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from dcht.checkpoint import from_dict
from dcht.errors import CheckpointError, UsageError
from dcht.files import ERRORS, open_regular, read_json, read_lines
from dcht.latents.shards import Shape, Shard, check_row, read_shard_rows, rows_path, tensors_path
from dcht.ranges import Length, Range, check_ranges

MANIFEST, PLAN = "manifest.json", ".plan.json"
FORMAT = "dcht-latents-1"
MAX_CODES = 1 << 32
"""What a uint32 can name."""
Side = Annotated[int, Range(1, 65536)]


@dataclass(kw_only=True)
class EncodePlan:
    """Everything the bytes of a store depend on; encoding resumes only under an equal plan."""

    tokenizer_sha256: str
    width: Side
    height: Side
    latent_height: Side
    latent_width: Side
    latent_channels: Annotated[int, Range(1, 65536)]
    codebook_size: Annotated[int | None, Range(1, MAX_CODES)]
    """None: the latents are continuous, and there are no indices."""
    residual_std: Annotated[float | None, Range(0, above=True)]
    transform: str
    """How an image was brought to width x height: a value of `dcht.images.Fit`."""
    files_sha256: str
    """Hash of the sorted list of inputs with their sizes and what tables say of them. What they
    hold is recorded where it was read: in the shards (`dcht.latents.shards`)."""
    shard_size: Annotated[int, Range(1)]
    """Inputs that a shard covers."""
    batch_size: Annotated[int, Range(1)]
    threads: Annotated[int, Range(1)]
    """Matrix products differ in their last bits with the number of threads."""
    flip: str = "none"
    """`both`: every image has a second row, of its mirror image, with `flip: true`."""
    precision: str = "fp32"
    """Of the encoder; the quantizer works in fp32."""
    compiled: bool = False
    """Whether torch.compile's encoder worked; it differs from the plain one in its last bits."""
    device: str = "cpu"
    """Its kind; results of another kind differ in their last bits."""
    latents_sha256: str | None = None
    """Of the tokenizer without its decoder (`dcht.latents.maker`); None: of an older dcht."""

    def __post_init__(self) -> None:
        """Refuse what no store can have."""
        check_ranges(self)

    @property
    def shape(self) -> Shape:
        """What its shards must look like."""
        return Shape(
            self.latent_channels, self.latent_height, self.latent_width, self.codebook_size
        )


@dataclass(kw_only=True)
class Manifest:
    """What a finished store holds."""

    format: str
    plan: EncodePlan
    count: Annotated[int, Range(0)]
    skipped: Annotated[int, Range(0)]
    shards: Annotated[list[int], Length(1, 10**7), Range(0)]
    """Rows of each shard; an input that was skipped leaves its shard shorter."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Of every other file of the store, by name; empty in stores of dcht 0.1.0."""

    def __post_init__(self) -> None:
        """Refuse what no store can have, and names of files that are none of its own."""
        check_ranges(self)
        if sum(self.shards) != self.count:
            raise UsageError(f"count is {self.count}; its shards have {sum(self.shards)} images")
        if not isinstance(self.sha256, dict):
            raise UsageError("sha256 is not an object")
        if foreign := sorted(set(self.sha256) - set(self.files())):
            raise UsageError(f"sha256 names {foreign[0]!r}, which is no file of a store")

    def files(self) -> list[str]:
        """The names of what a store of these shards consists of, `errors.jsonl` included."""
        numbers = range(len(self.shards))
        paths = [place(Path(), k) for k in numbers for place in (tensors_path, rows_path)]
        return [*(path.name for path in paths), ERRORS]


class LatentsStore:
    """Random access to a finished store; what is read is mapped into memory, not loaded."""

    def __init__(self, folder: str | Path) -> None:
        """Open a store.

        Raises:
            UsageError: there is none, or it is not finished.
            CheckpointError: it is damaged.
        """
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.plan = self.manifest.plan
        self._ends = list(itertools.accumulate(self.manifest.shards))
        self._shards: dict[int, Shard] = {}
        self._lines: dict[int, list[int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Mapped files do not travel to another process; it maps them for itself.
        return {**self.__dict__, "_shards": {}}

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def continuous(self) -> bool:
        """Whether it holds latents (`read_latent`) in place of indices and residuals (`read`)."""
        return self.plan.codebook_size is None

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """All rows: `file`, `caption` (or None), `captions` where there are several.

        Raises:
            CheckpointError: there are not as many as images, or one is damaged.
        """
        counts = enumerate(self.manifest.shards)
        return [row for k, count in counts for row in read_shard_rows(self.folder, k, count)]

    def row(self, index: int) -> dict[str, Any]:
        """The row of one image, without reading those of the others.

        Raises:
            CheckpointError: it is not there, or damaged.
        """
        shard, number = self._place(index)
        path = rows_path(self.folder, shard)
        where = f"{path} line {number + 1}"
        try:
            with open_regular(path) as file:
                if shard not in self._lines:
                    lengths = (len(line) for line in read_lines(file))
                    self._lines[shard] = [0, *itertools.accumulate(lengths)]
                starts = self._lines[shard]
                if number + 1 >= len(starts):
                    raise CheckpointError(f"{path} has {len(starts) - 1} rows; no {number + 1}th")
                file.seek(starts[number])
                return check_row(file.read(starts[number + 1] - starts[number]), where)
        except (OSError, UsageError) as error:
            raise CheckpointError(f"{where} cannot be read: {error}") from None

    def is_flipped(self, index: int) -> bool:
        """Whether an image is the mirror image of the one before it.

        A key `flip` of its row says so only in a store of both flips; elsewhere it is the user's.
        """
        return self.plan.flip == "both" and self._place(index)[1] % 2 == 1

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Indices (h, w) int64 and residual (c, h, w) fp32 of one image.

        Raises:
            UsageError: the store is `continuous`.
            CheckpointError: they are not there, or values that cannot be.
        """
        shard, number = self._place(index)
        return self._open(shard).read(number)

    def read_latent(self, index: int) -> Tensor:
        """The latent (c, h, w) fp32 of one image of a `continuous` store.

        Raises:
            UsageError: the store holds indices and residuals.
            CheckpointError: it is not there, or values that cannot be.
        """
        shard, number = self._place(index)
        return self._open(shard).read_latent(number)

    def read_shard(self, shard: int) -> tuple[Tensor | None, Tensor]:
        """Indices (n, h, w) int64 and residual (n, c, h, w) fp16 of one shard.

        Of a `continuous` store None and the latents.

        Raises:
            CheckpointError: they are not there, or values that cannot be.
        """
        opened = self._open(shard)
        return (None, opened.read_latent()) if self.continuous else opened.read()

    def load_all(self) -> tuple[Tensor, Tensor]:
        """Every image: indices (n, h, w) int64, residual (n, c, h, w) fp16. For small stores.

        Raises:
            UsageError: the store is `continuous`.
            CheckpointError: they are not there, or values that cannot be.
        """
        parts = [self._open(shard).read() for shard in range(len(self.manifest.shards))]
        indices, residual = zip(*parts, strict=True)
        return torch.cat(indices), torch.cat(residual)

    def _place(self, index: int) -> tuple[int, int]:
        """The shard of an image and its number there."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        shard = bisect.bisect_right(self._ends, index)
        return shard, index - self._ends[shard] + self.manifest.shards[shard]

    def _open(self, shard: int) -> Shard:
        if shard not in self._shards:
            count = self.manifest.shards[shard]
            self._shards[shard] = Shard(self.folder, shard, self.plan.shape, count)
        return self._shards[shard]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished store.

    Raises:
        UsageError: there is none, or the store is not finished.
        CheckpointError: it is not what `dcht encode` writes.
    """
    path = folder / MANIFEST
    try:
        content = read_json(path)
    except FileNotFoundError:
        state = (
            "is not finished: repeat its dcht encode" if (folder / PLAN).exists() else "is not one"
        )
        raise UsageError(f"{folder} should be a store of latents and {state}") from None
    except UsageError as error:
        raise CheckpointError(str(error)) from None
    if content.get("format") != FORMAT or not isinstance(content.get("plan"), dict):
        raise CheckpointError(f"{path} has format {content.get('format')!r}; this reads {FORMAT!r}")
    return from_dict(Manifest, content, str(path))

"""A shard of a store on disk: two files, opened with everything that may be wrong with them.

`shard-NNNNN.safetensors` holds indices uint16 (n, h, w), or uint32 where a uint16 cannot name every
code; residual float16 (n, c, h, w); and sha256 uint8 (inputs, 3, 32): of the image, the text and
the fields that each input was read from, zeros where there was none. Of a tokenizer without a
codebook it holds `latent` float16 (n, c, h, w) in place of indices and residual.
`shard-NNNNN.jsonl` holds a row for each of the n.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dcht.checkpoint import is_finite
from dcht.errors import CheckpointError, UsageError
from dcht.files import jsonl, open_regular, parse_json, parse_row, read_lines, write_atomic


class Shape(NamedTuple):
    """What the plan of a store says of each image: channels, height and width of its latents."""

    channels: int
    height: int
    width: int
    codes: int | None
    """None: latents are continuous."""

    @property
    def wide(self) -> bool:
        """Whether there are more codes than a uint16 can name."""
        return self.codes is not None and self.codes > 1 << 16

    @property
    def values(self) -> str:
        """The name of the tensor that is not indices."""
        return "latent" if self.codes is None else "residual"


class ShardData(NamedTuple):
    """What a shard is made of."""

    rows: list[dict[str, Any]]
    errors: list[dict[str, str]]
    """What was skipped: file and reason."""
    indices: Tensor | None
    """(n, h, w); None: of a tokenizer without a codebook."""
    values: Tensor
    """The residual, or the latent where there are no indices, (n, c, h, w)."""
    sha256: Sequence[bytes]
    """`Content.sha256()` of each input, the skipped ones too."""


def tensors_path(folder: Path, shard: int) -> Path:
    """Where the tensors of a shard are."""
    return folder / f"shard-{shard:05d}.safetensors"


def rows_path(folder: Path, shard: int) -> Path:
    """Where the rows of a shard are."""
    return folder / f"shard-{shard:05d}.jsonl"


def write_shard(folder: Path, shard: int, data: ShardData, *, shape: Shape) -> None:
    """Write a shard of this shape; the tensors come last: with them the shard is there.

    They carry what failed in the file's metadata, so that whoever finishes the store finds it.
    """
    write_atomic(rows_path(folder, shard), jsonl(data.rows))
    digests = torch.frombuffer(bytearray(b"".join(data.sha256)), dtype=torch.uint8)
    tensors = {
        shape.values: data.values.to(torch.float16).contiguous(),
        "sha256": rearrange(digests, "(n part byte) -> n part byte", part=3, byte=32),
    }
    if data.indices is not None:
        kind = torch.uint32 if shape.wide else torch.uint16
        tensors["indices"] = data.indices.to(kind).contiguous()
    # One entry and no more: safetensors keeps them in no order.
    content = save(tensors, metadata={"errors": json.dumps(data.errors)})
    write_atomic(tensors_path(folder, shard), content)


class Shard:
    """The tensors of a shard, mapped into memory."""

    def __init__(self, folder: Path, number: int, shape: Shape, count: int | None = None) -> None:
        """Open it.

        Args:
            folder: the store.
            number: which of its shards.
            shape: what its images must have.
            count: how many there must be; None: any number.

        Raises:
            CheckpointError: it is missing or damaged, or has another shape.
        """
        self.path, self.shape = tensors_path(folder, number), shape
        try:
            open_regular(self.path).close()  # a pipe in its place would hold us for ever
            self._file: Any = safe_open(self.path, "pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self.path} is missing or damaged: {error}") from None
        found = others = self._shape_of(shape.values, "F16", tuple(shape[:3]))
        if shape.codes is not None:
            kind = "U32" if shape.wide else "U16"
            found = self._shape_of("indices", kind, (shape.height, shape.width))
        self.count = found if count is None else count
        if {found, others} != {self.count}:
            raise CheckpointError(
                f"{self.path} has {found} images and {others} {shape.values}s; expected "
                f"{self.count}"
            )

    def _shape_of(self, name: str, dtype: str, rest: tuple[int, ...]) -> int:
        if name not in self._file.keys():  # noqa: SIM118  # not a dict
            raise CheckpointError(f"{self.path} has no tensor {name!r}")
        part = self._file.get_slice(name)
        found, kind = tuple(part.get_shape()), part.get_dtype()
        if kind != dtype or not found or found[1:] != rest:
            expected = ", ".join(["n", *map(str, rest)])
            raise CheckpointError(
                f"{self.path}: {name} is {kind} {found}; expected {dtype} ({expected})"
            )
        return found[0]

    def read(self, number: int | None = None) -> tuple[Tensor, Tensor]:
        """Indices (h, w) int64 and residual (c, h, w) fp32 of one image.

        Without a number, of all: (n, h, w) int64 and (n, c, h, w) fp16.

        Raises:
            UsageError: the latents are continuous.
            CheckpointError: a value that cannot be.
        """
        codes = self.shape.codes
        if codes is None:
            raise UsageError(
                f"{self.path.parent} holds continuous latents, without indices: its tokenizer has "
                "no codebook; encode with one that has"
            )
        indices = self._read("indices", number).long()
        largest = int(indices.max()) if indices.numel() else 0
        if largest >= codes:
            raise self._damaged(f"index {largest} of a codebook of {codes}")
        return indices, self._values(number)

    def read_latent(self, number: int | None = None) -> Tensor:
        """The continuous latent (c, h, w) fp32 of one image; without a number of all, fp16.

        Raises:
            UsageError: there are indices and residuals in its place.
            CheckpointError: a value that cannot be.
        """
        if self.shape.codes is not None:
            raise UsageError(
                f"{self.path.parent} holds indices and residuals; a latent is "
                "tokenizer.lookup(indices) + residual"
            )
        return self._values(number)

    def _values(self, number: int | None) -> Tensor:
        values = self._read(self.shape.values, number)
        if not is_finite(values):
            raise self._damaged(f"a {self.shape.values} that is NaN or infinite")
        return values if number is None else values.float()

    def _read(self, name: str, number: int | None) -> Tensor:
        if number is None:
            return self._file.get_tensor(name)
        return self._file.get_slice(name)[number : number + 1][0]

    def _damaged(self, wrong: str) -> CheckpointError:
        return CheckpointError(f"{self.path} holds {wrong}; encode again into an empty folder")

    def sha256(self) -> list[bytes] | None:
        """What each input held when it was encoded; None where that was not recorded yet.

        Raises:
            CheckpointError: it is not what it should be.
        """
        if "sha256" not in self._file.keys():  # noqa: SIM118
            return None
        part = self._file.get_slice("sha256")
        if part.get_dtype() != "U8" or part.get_shape()[1:] != [3, 32]:
            raise CheckpointError(f"{self.path}: sha256 is not U8 (n, 3, 32)")
        return [row.numpy().tobytes() for row in self._file.get_tensor("sha256")]

    def errors(self) -> list[dict[str, str]]:
        """What was skipped: file and reason.

        Raises:
            CheckpointError: it is not what it should be.
        """
        try:
            found = parse_json((self._file.metadata() or {})["errors"], self.path)
            return [{key: str(row[key]) for key in ("file", "reason")} for row in found]
        except (KeyError, TypeError, UsageError) as error:
            raise CheckpointError(f"{self.path} does not say what was skipped: {error}") from None


def read_shard_rows(folder: Path, shard: int, count: int) -> Iterator[dict[str, Any]]:
    """The rows of a shard, which must be `count`.

    Raises:
        CheckpointError: they are not, or one is not a row of a store.
    """
    path = rows_path(folder, shard)
    number = 0
    try:
        with open_regular(path) as file:
            for number, line in enumerate(islice(read_lines(file), count + 1), start=1):
                yield check_row(line, f"{path} line {number}")
    except OSError as error:
        raise CheckpointError(f"{path} is missing or damaged: {error.strerror}") from None
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if number != count:
        have = "more" if number > count else number
        raise CheckpointError(f"{path} has {have} rows for {count} images")


def check_row(line: bytes, where: str) -> dict[str, Any]:
    """A line of a shard's rows.

    Raises:
        CheckpointError: it is not a row of a store.
    """
    try:
        row = parse_row(line, where)
    except UsageError as error:
        raise CheckpointError(str(error)) from None
    captions = row.get("captions", [])
    good = isinstance(row.get("file"), str) and isinstance(row.get("caption"), str | None)
    if not good or not isinstance(captions, list):
        raise CheckpointError(f"{where} is not a row of a store: file, caption, captions")
    return row

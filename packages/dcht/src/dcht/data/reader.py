"""Inputs to batches of pixels, read in threads ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcht.data.entries import READERS, Entry
from dcht.errors import UsageError
from dcht.images import Fit, Fitting, fit_image, scale, to_bytes

AHEAD = 2
"""Batches that are read while one is in use."""


class Batch(NamedTuple):
    """Images that could be read, and a row for each that could not."""

    rows: list[dict[str, Any]]
    """An image each: `file`, and captions and fields if they were asked for."""
    images: Tensor
    """(b, 3, H, W) fp32 in [-1, 1]; b may be 0."""
    errors: list[dict[str, str]]
    sha256: list[bytes]
    """`Content.sha256()` of every input of the batch in order, in `rows` or in `errors`."""


class Reader:
    """Reads inputs as images of one size."""

    def __init__(
        self,
        size: tuple[int, int],
        *,
        fit: Fit | Fitting = Fit.crop,
        captions: bool = False,
        strict: bool = False,
    ) -> None:
        """Start the threads.

        Args:
            size: (width, height) that every image is brought to.
            fit: how; a function for another way than the named ones.
            captions: whether rows hold what stands beside the images; an image beside which
                something cannot be read then counts as one that cannot be.
            strict: stop at the first input that cannot be read.
        """
        self.size, self.captions, self.strict = size, captions, strict
        self._fit = partial(fit_image, fit=fit) if isinstance(fit, Fit) else fit
        self._pool = ThreadPoolExecutor(READERS)

    def batches(self, parts: Iterable[Sequence[Entry]]) -> Iterator[Batch]:
        """A batch for each part, in order, the next ones being read while one is in use.

        An input that cannot be read leaves its batch smaller, so that boundaries stay in place.

        Raises:
            UsageError: an input cannot be read and `strict` is on.
        """
        pending: deque[tuple[Sequence[Entry], list[Future[Any]]]] = deque()
        try:
            for part in parts:
                pending.append((part, [self._pool.submit(self._read, entry) for entry in part]))
                if len(pending) > AHEAD:
                    yield self._collect(*pending.popleft())
            while pending:
                yield self._collect(*pending.popleft())
        finally:
            for _, futures in pending:
                for future in futures:
                    future.cancel()

    def _read(self, entry: Entry) -> tuple[bytes, tuple[dict[str, Any], Tensor] | UsageError]:
        content = entry.read(beside=self.captions)
        digest = content.sha256()
        try:
            row = entry.row(content) if self.captions else {"file": entry.name}
            return digest, (row, to_bytes(self._fit(content.open(), self.size)))
        except UsageError as error:
            return digest, error

    def _collect(self, part: Sequence[Entry], futures: Sequence[Future[Any]]) -> Batch:
        rows, images, errors, digests = [], [], [], []
        for entry, future in zip(part, futures, strict=True):
            digest, result = future.result()
            digests.append(digest)
            if isinstance(result, UsageError):
                if self.strict:
                    raise UsageError(f"{entry.name}: {result}")
                errors.append({"file": entry.name, "reason": str(result)})
            else:
                rows.append(result[0])
                images.append(result[1])
        width, height = self.size
        pixels = torch.stack(images) if images else torch.empty(0, 3, height, width).byte()
        return Batch(rows, scale(pixels), errors, digests)


def split(entries: Sequence[Entry], size: int) -> list[Sequence[Entry]]:
    """Consecutive parts of `size` entries, the last one perhaps smaller."""
    return [entries[start : start + size] for start in range(0, len(entries), size)]

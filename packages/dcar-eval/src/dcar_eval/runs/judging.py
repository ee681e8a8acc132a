"""A judge's way through the images of its share: what it says is kept, prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from dcar_eval.runs.journal import Journal
from dcht.errors import UsageError
from dcht.images import ImageError

T = TypeVar("T")


def judge_images(
    batches: Sequence[Sequence[T]],
    judge: Callable[[T], dict[str, Any]],
    journal: Journal,
    *,
    name: Callable[[T], str],
    numbers: Mapping[str, int],
    folder: Path,
    strict: bool,
) -> None:
    """Judge what the journal does not have yet; an image that cannot be read is a row of errors.

    Args:
        batches: images, those of a prompt together; the journal is saved after each.
        judge: what a row says of an image.
        journal: of this share.
        name: what rows call an image.
        numbers: by name, an image's number among those of all shares.
        folder: where they are, for a message.
        strict: stop at the first image that cannot be read.

    Raises:
        UsageError: an image cannot be read, and `strict`.
    """
    total, seen = sum(map(len, batches)), 0
    with tqdm(total=total, unit="img", desc="judge", disable=None) as progress:
        progress.update(journal.done)
        for batch in batches:
            seen += len(batch)
            if seen <= journal.done:
                continue
            for image in batch:
                row = {"index": numbers[name(image)], "file": name(image)}
                try:
                    journal.add([row | judge(image)], files=1)
                except ImageError as error:
                    if strict:
                        raise UsageError(f"{folder / name(image)}: {error}") from None
                    journal.add([], [row | {"error": str(error)}], files=1)
            journal.save()
            progress.update(len(batch))

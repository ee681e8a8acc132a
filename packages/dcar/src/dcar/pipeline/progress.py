"""Steps as they go by, on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

PATIENCE = 2
"""Seconds that work may take without a word."""


@contextmanager
def counted_steps(steps: int, images: int) -> Iterator[Callable[[], object]]:
    """A bar of the steps that some images take, with the time left, beyond two seconds of work.

    It is shown on a terminal alone. What is yielded is to be called after every unmasking step, and
    once after the residual and the decoder.
    """
    name = "generate" if images == 1 else f"generate {images} images"
    with tqdm(total=steps, unit="step", desc=name, disable=None, delay=PATIENCE) as bar:
        yield bar.update

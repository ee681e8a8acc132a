"""The images of a run while it makes them, in a file for whoever looks on: `--preview`."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from dcar.pipeline.series import Show
from dcht.errors import printable
from dcht.images import grid, save_png


@contextmanager
def live_preview(path: Path) -> Iterator[Show]:
    """Within it, what is shown is in this file, several images as one sheet.

    The file is replaced as a whole, so that a viewer never reads half of one, and is gone in the
    end, when the images themselves are there.
    """
    print(f"preview: {printable(path)}", file=sys.stderr)

    def show(images: Sequence[Image.Image]) -> None:
        save_png(grid(list(images), columns=math.ceil(math.sqrt(len(images)))), path)

    try:
        yield show
    finally:
        path.unlink(missing_ok=True)

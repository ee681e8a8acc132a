"""Batches of pixels as ADM's and MAR's scripts save them: `.npz` with `arr_0`, uint8 (n, H, W, 3).

They are read where they are, an image at a time, as any other input is.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dcht.data.entries import Content, Entry
from dcht.data.zips import find_member
from dcht.errors import UsageError
from dcht.files import open_regular

MEMBER = "arr_0.npy"
HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class PixelEntry(Entry):
    """An image of a batch: bytes of pixels, row by row; `metadata` has its `height` and `width`."""

    __slots__ = ()

    def read(self, *, image: bool = True, beside: bool = True) -> Content:
        """The image as a file of pixels (BMP), which loses nothing."""
        content = super().read(image=image, beside=beside)
        if content.image is None:
            return content
        size = (self.metadata or {})["width"], (self.metadata or {})["height"]
        buffer = io.BytesIO()
        Image.frombytes("RGB", size, content.image).save(buffer, format="BMP")
        return content._replace(image=buffer.getvalue())


def is_batch(path: Path) -> bool:
    """Whether a file is a `.npz` that holds `arr_0`."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return MEMBER in archive.namelist()
    except Exception:  # whatever zipfile ran into: who reads it next says what is wrong
        return False


def list_batch(path: Path) -> list[Entry]:
    """The images of a batch, in its order.

    Raises:
        UsageError: it is damaged, compressed, or holds something else than images of 8 bits.
    """
    whole = find_member(path, MEMBER)
    if whole.deflated is not None:
        raise UsageError(f"{path} is compressed: save it with np.savez, not np.savez_compressed")
    try:
        with open_regular(whole.file) as file:
            file.seek(whole.offset)
            version = np.lib.format.read_magic(file)
            shape, fortran, dtype = HEADERS[version](file)
            start = file.tell()
    except Exception as error:
        # Whatever numpy ran into in a hostile header, which it parses as Python.
        raise UsageError(f"{path}: arr_0 is no array of numpy's: {error}") from None
    if dtype != np.uint8 or fortran or len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
        raise UsageError(
            f"{path}: arr_0 is {dtype} of shape {shape}; expected uint8 of (n, height, width, 3)"
        )
    count, height, width, _ = shape
    each = height * width * 3
    if start + count * each > whole.offset + whole.size:
        raise UsageError(f"{path} is cut short: it has not the bytes of {count:,} images")
    facts = {"height": height, "width": width}
    return [
        PixelEntry(
            f"{path.name}/{number:06d}",
            whole._replace(offset=start + number * each, size=each, crc=None),
            metadata=facts,
        )
        for number in range(count)
    ]

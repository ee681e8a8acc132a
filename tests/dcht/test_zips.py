"""Zip archives are read where they are: stored, deflated, and damaged members."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from dcht.errors import UsageError
from dcht.images import ImageError, open_image
from dcht.zips import list_zip


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_the_files(pictures: Path, tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.mkdir("folder.png")
        for name in ("more/f.jpg", "a.png", "a.txt"):
            archive.write(pictures / name, name)
    entries = list_zip(tmp_path / "x.zip")
    assert [entry.name for entry in entries] == ["more/f.jpg", "a.png"]
    for entry in entries:
        expected = open_image(pictures / entry.name)
        assert np.array_equal(np.asarray(entry.open()), np.asarray(expected))
        assert entry.image is not None
        assert entry.image.size == (pictures / entry.name).stat().st_size


def test_what_cannot_be_read_is_named(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(pictures / "a.png", "a.png", zipfile.ZIP_DEFLATED)
        archive.write(pictures / "e.png", "e.png", zipfile.ZIP_LZMA)
    first, second = list_zip(path)
    with pytest.raises(ImageError, match="compressed otherwise than by deflate"):
        second.open()
    content = bytearray(path.read_bytes())
    assert first.image is not None
    content[first.image.offset] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"damaged|cut short|not a PNG"):
        first.open()
    path.write_bytes(content[:200])
    with pytest.raises(UsageError, match=r"x\.zip is not a zip archive that can be read"):
        list_zip(path)

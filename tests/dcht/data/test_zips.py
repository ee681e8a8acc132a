"""Zip archives are read where they are: stored, deflated, and damaged members."""

import resource
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from dcht.data.zips import list_zip
from dcht.errors import UsageError
from dcht.images import ImageError, open_image


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_the_files(images: Path, tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.mkdir("folder.png")
        for name in ("more/f.jpg", "a.png", "a.txt"):
            archive.write(images / name, name)
        for name in ("__MACOSX/a.png", "__MACOSX/more/._f.jpg", "more/._f.jpg"):
            archive.writestr(name, b"\0\5\26\7 of macOS")  # beside every file
    entries = list_zip(tmp_path / "x.zip")
    assert [entry.name for entry in entries] == ["more/f.jpg", "a.png"]
    for entry in entries:
        expected = open_image(images / entry.name)
        assert np.array_equal(np.asarray(entry.open()), np.asarray(expected))
        assert entry.image is not None
        assert entry.image.size == (images / entry.name).stat().st_size


def test_what_cannot_be_read_is_named(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(images / "a.png", "a.png", zipfile.ZIP_DEFLATED)
        archive.write(images / "e.png", "e.png", zipfile.ZIP_LZMA)
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


def write_zip(
    path: Path, name: str, content: bytes, *, says: int, stored: int | None = None
) -> None:
    """A zip of one deflated member whose directory says how large it is, truly or not."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(content) + packer.flush()
    size = len(packed) if stored is None else stored
    fields = (20, 0, 8, 0, 0, zlib.crc32(content), size, says, len(name), 0)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", *fields) + name.encode()
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *fields, 0, 0, 0, 0, 0) + name.encode()
    start = len(local) + len(packed)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(entry), start, 0)
    path.write_bytes(local + packed + entry + end)


@pytest.mark.parametrize("says", [0, 1, 1000])
def test_a_member_that_holds_more_than_it_says(tmp_path: Path, says: int) -> None:
    """A deflated gigabyte in a megabyte: not unpacked beyond what it says."""
    path = tmp_path / "bomb.zip"
    write_zip(path, "x.png", bytes(1 << 27), says=says)
    (entry,) = list_zip(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"more than the|checksum"):
        entry.open()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize(
    ("says", "stored"), [(1 << 29, None), (8, 0), (8, 1 << 31), (2**32 - 1, 9)]
)
def test_a_member_that_lies_about_its_size(tmp_path: Path, says: int, stored: int | None) -> None:
    write_zip(tmp_path / "x.zip", "x.png", b"no image", says=says, stored=stored)
    (entry,) = list_zip(tmp_path / "x.zip")
    with pytest.raises(ImageError, match=r"the cap is|cut short|damaged"):
        entry.open()


def test_a_changed_byte_of_a_member_is_found(images: Path, tmp_path: Path) -> None:
    """Decoders do not see every one; the archive has a checksum."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(images / "d.bmp", "d.bmp")
    (entry,) = list_zip(path)
    assert entry.image is not None
    content = bytearray(path.read_bytes())
    content[entry.image.offset + 1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ImageError, match="checksum"):
        entry.open()


@pytest.mark.parametrize("content", [b"", b"PK\5\6", b"PK\3\4" + bytes(400), b"\0" * 22,
                                     b"PK\5\6" + b"\xff" * 18, b"no zip at all"])  # fmt: skip
def test_what_is_no_zip_is_said_in_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"^[^\n]*x\.zip[^\n]*$"):
        list_zip(path)
    with pytest.raises(UsageError, match="not a regular file"):
        list_zip(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        list_zip(tmp_path / "gone.zip")


def test_a_member_that_is_not_where_the_directory_says(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(images / "a.png", "a.png")
    content = bytearray(path.read_bytes())
    where = content.index(b"PK\1\2")
    content[where + 42 : where + 46] = (where).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ImageError, match="where it is not"):
        list_zip(path)[0].open()

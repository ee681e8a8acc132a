"""Zip archives of images: read where they are, never unpacked, as `dcht.archives` reads tars."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from dcht.entries import Entry, Part
from dcht.errors import UsageError
from dcht.images import IMAGE_SUFFIXES

LOCAL_HEADER = struct.Struct("<26xHH")
"""In front of every member: 26 bytes that the directory has too, then how long its name and its
extra field are, which may differ from the directory's."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def list_zip(path: str | Path) -> list[Entry]:
    """The images of a zip archive, in its order; what cannot be read has its `problem`.

    Raises:
        UsageError: not a zip archive, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            found = []
            for member in archive.infolist():
                if Path(member.filename).suffix.lower() not in IMAGE_SUFFIXES or member.is_dir():
                    continue
                if member.compress_type not in METHODS or member.flag_bits & 1:
                    problem = "encrypted, or compressed otherwise than by deflate"
                    found.append(Entry(member.filename, problem=problem))
                    continue
                file.seek(member.header_offset)
                lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
                start = member.header_offset + LOCAL_HEADER.size + sum(lengths)
                packed = member.compress_type == zipfile.ZIP_DEFLATED
                size = member.compress_size if packed else 0
                found.append(Entry(member.filename, Part(str(path), member.file_size, start, size)))
            return found
    except (zipfile.BadZipFile, struct.error) as error:
        raise UsageError(f"{path} is not a zip archive that can be read: {error}") from None

"""Zip archives of images: read where they are, never unpacked, as `archives` reads tars."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from dcht.data.beside import is_twin
from dcht.data.entries import Entry, Part, file_part
from dcht.errors import UsageError
from dcht.files import open_regular
from dcht.images import IMAGE_SUFFIXES

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""In front of every member: a signature, 22 bytes that the directory has too, then how long its
name and its extra field are, which may differ from the directory's."""
SIGNATURE = b"PK\3\4"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def list_zip(path: str | Path) -> list[Entry]:
    """The images of a zip archive, in its order; what cannot be read has its `problem`.

    Raises:
        UsageError: not a zip archive, or damaged.
    """
    try:
        whole = file_part(str(path))
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return [
                _entry(member, file, whole)
                for member in archive.infolist()
                if Path(member.filename).suffix.lower() in IMAGE_SUFFIXES
                and not (member.is_dir() or is_twin(member.filename))
            ]
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except Exception as error:
        # Whatever zipfile ran into in a hostile directory: it promises no particular exception.
        reason = str(error) or type(error).__name__
        raise UsageError(f"{path} is not a zip archive that can be read: {reason}") from None


def find_member(path: str | Path, name: str) -> Part:
    """Where a member of a zip archive is, of whatever kind it is.

    Raises:
        UsageError: not a zip archive, damaged, or without this member.
    """
    try:
        whole = file_part(str(path))
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            entry = _entry(archive.getinfo(name), file, whole)
    except KeyError:
        raise UsageError(f"{path} has no {name}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except Exception as error:
        # Whatever zipfile ran into in a hostile directory: it promises no particular exception.
        reason = str(error) or type(error).__name__
        raise UsageError(f"{path} is not a zip archive that can be read: {reason}") from None
    if entry.image is None:
        raise UsageError(f"{path}: {name} is {entry.problem}")
    return entry.image


def _entry(member: zipfile.ZipInfo, file: BinaryIO, whole: Part) -> Entry:
    name = member.filename
    if member.compress_type not in METHODS or member.flag_bits & 1:
        return Entry(name, problem="encrypted, or compressed otherwise than by deflate")
    file.seek(max(0, member.header_offset))
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or not header.startswith(SIGNATURE):
        return Entry(name, problem="damaged: the directory says that it is where it is not")
    _, *lengths = LOCAL_HEADER.unpack(header)
    start = member.header_offset + LOCAL_HEADER.size + sum(lengths)
    packed = member.compress_type == zipfile.ZIP_DEFLATED
    stored = member.compress_size if packed else member.file_size
    if start + stored > whole.size:
        return Entry(name, problem="cut short: the archive ends before it does")
    image = whole._replace(
        size=member.file_size,
        offset=start,
        deflated=member.compress_size if packed else None,
        crc=member.CRC,
    )
    return Entry(name, image)

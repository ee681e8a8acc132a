"""Tar archives of images, as WebDataset has them: read where they are, never unpacked.

A member's name is a label and nothing more: nothing is written under it, and one that would lead
out of the archive is refused all the same. Members of one key (the name up to the first dot) belong
together: `0007.jpg`, `0007.txt`, `0007.json`, `0007.cls`. An `.img` is an image of any format.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from dcht.data.beside import FindName, among, find_beside, is_twin, suffix_of
from dcht.data.captions import TEXT_SUFFIXES
from dcht.data.entries import Entry, Part, file_part, join_entry
from dcht.files import open_regular
from dcht.images import IMAGE_SUFFIXES, ImageError

MEMBER_SUFFIXES = (*IMAGE_SUFFIXES, ".img")
MAX_HEADER = 1 << 20
"""Bytes that one header of an archive may have: a long name, or PAX records."""


def list_archive(path: str, name: str, unread: list[str] | None = None) -> list[Entry]:
    """The images of a tar archive, with the captions and fields beside them.

    An archive that is damaged gives what stands before the damage, and an entry that says so.

    Args:
        path: the archive.
        name: what the names of its entries begin with.
        unread: where names of members go that look like captions or labels and belong to no image.
    """
    members: dict[str, Part | str] = {}
    problem = _read_members(path, members)
    used: set[str] = set()
    find = among(members)
    entries = [
        _entry(f"{name}/{member}", member, members, find, used)
        for member in members
        if suffix_of(member) in MEMBER_SUFFIXES
    ]
    if unread is not None:
        texts = (member for member in members if suffix_of(member) not in MEMBER_SUFFIXES)
        unread += [f"{name}/{member}" for member in texts if member not in used]
    return [*entries, Entry(name, problem=problem)] if problem else entries


class _Bounded:
    """An archive whose headers are read a little at a time: tarfile reads what they ask for."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.tell, self.seek = file, file.tell, file.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.TarError(f"a header of {size:,} bytes")
        return self.file.read(size)


def _read_members(path: str, members: dict[str, Part | str]) -> str:
    """Fill in where each member is, or why it is refused; return what is wrong with the archive."""
    try:
        whole = file_part(path)
        with open_regular(path) as file:
            bounded: Any = _Bounded(file)
            with tarfile.open(fileobj=bounded, mode="r:") as tar:
                last = -1
                for member in tar:
                    tar.members.clear()  # type: ignore[attr-defined]  # it keeps all, and nobody asks
                    if member.offset <= last:
                        return f"damaged: headers go back from byte {last}"
                    last = member.offset
                    if is_twin(member.name):
                        continue
                    if suffix_of(member.name) in (*MEMBER_SUFFIXES, *TEXT_SUFFIXES):
                        part = whole._replace(size=member.size, offset=member.offset_data)
                        members[member.name] = _refusal(member, whole.size) or part
                # tarfile takes a header that it does not understand for the end.
                file.seek(tar.offset)
                if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    return f"damaged or cut at byte {tar.offset:,}"
    except ImageError as error:
        return str(error)
    except Exception as error:
        # Whatever tarfile ran into in a hostile header: it promises no particular exception.
        return f"damaged: {error or type(error).__name__}"
    return ""


def _refusal(member: tarfile.TarInfo, size: int) -> str:
    """Why a member is not read; nothing if it may be."""
    if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
        return "its name leads out of the archive"
    if not member.isreg() or member.issparse():
        return "not a regular file"
    if member.size < 0 or member.offset_data + member.size > size:
        return "cut short: the archive ends before it does"
    return ""


def _entry(
    name: str, member: str, members: dict[str, Part | str], find: FindName, used: set[str]
) -> Entry:
    """An image of an archive with what belongs to it, whose names are added to `used`."""
    image = members[member]
    if isinstance(image, str):
        return Entry(name, problem=image)
    # WebDataset's key ends at the first dot; a folder that was packed as it is has `a.b.txt`
    # beside `a.b.jpg`.
    folder, base = os.path.split(member)
    stems = [posixpath.splitext(member)[0], posixpath.join(folder, base.split(".", 1)[0])]
    beside = find_beside(stems, find)
    used.update(beside.names())
    parts: list[Part | None] = []
    for there in beside:
        part = None if there is None else members[there]
        if isinstance(part, str):
            return Entry(name, problem=f"{there}: {part}")
        parts.append(part)
    try:
        return join_entry(name, image, *parts, text_name=beside.text)
    except ImageError as error:
        return Entry(name, problem=str(error))

"""What there is to encode: images in folders, in tar archives, or named by a list.

Everything that looks like an image becomes an `Entry`. What cannot be read for a reason that shows
already, or must not be for safety, becomes an entry with its `problem`: nothing is passed over in
silence. Entries are sorted by name, so that the same inputs are the same work on every machine.
Nothing is ever unpacked: a member of an archive is a range of bytes in it (`dcht.archives`).
"""

from __future__ import annotations

import glob
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dcht.archives import list_archive
from dcht.captions import METADATA, read_table
from dcht.entries import Entry, file_entry, file_part
from dcht.errors import UsageError
from dcht.images import FORMATS, IMAGE_SUFFIXES

ARCHIVE_SUFFIX = ".tar"
UNREAD_SUFFIXES = (
    ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".tga",
)  # fmt: skip
"""Images for certain, of a format that is not opened: said rather than left out."""
PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def list_inputs(sources: str | Path | Sequence[str | Path]) -> list[Entry]:
    """Every input that some sources hold, sorted by name.

    A source is a folder (searched with all its subfolders for images and tar archives), a tar
    archive, an image, a list (one path a line, or `.jsonl` or `.csv` with a `file_name` and
    captions; paths are relative to the list), or a pattern of such: `shards/{00000..00099}.tar`,
    `shards/*.tar`. Names are relative to the folder, or to what several sources have in common.

    Raises:
        UsageError: a source is not there, is none of these, or there is nothing in any of them.
    """
    given = [sources] if isinstance(sources, str | Path) else sources
    paths = [os.path.abspath(path) for source in given for path in _expand(str(source))]
    alone = len(paths) == 1 and os.path.isdir(paths[0])
    root = paths[0] if alone else os.path.commonpath([os.path.dirname(path) for path in paths])
    entries = [entry for path in paths for entry in _list_source(path, root)]
    if not entries:
        named = ", ".join(map(str, given))
        raise UsageError(f"{named} holds no images ({', '.join(FORMATS)}, or .tar of them)")
    return sorted(entries, key=lambda entry: entry.name)


def _expand(source: str) -> list[str]:
    """The paths that a pattern stands for, in order; a path that exists stands for itself."""
    if os.path.lexists(source):
        return [source]
    words = list(_expand_braces(source))
    paths = [path for word in words for path in (sorted(glob.glob(word)) or [word])]
    if missing := [path for path in paths if not os.path.lexists(path)]:
        raise UsageError(
            f"{missing[0]} is not there; expected a folder of images, .tar archives or a list"
        )
    return paths


def _expand_braces(word: str) -> Iterator[str]:
    """`{a,b}` and `{08..11}`, as a shell does it."""
    found = re.search(r"\{([^{}]*)\}", word)
    if found is None:
        yield word
        return
    limits = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    if limits:
        width = len(limits[1])
        choices = [f"{n:0{width}d}" for n in range(int(limits[1]), int(limits[2]) + 1)]
    else:
        choices = found[1].split(",")
    for choice in choices:
        yield from _expand_braces(word[: found.start()] + choice + word[found.end() :])


def _list_source(path: str, root: str) -> Iterator[Entry]:
    name = os.path.relpath(path, root).replace(os.sep, "/")
    suffix = _suffix(path)
    if os.path.isdir(path):
        yield from _list_folder(path, "" if name == "." else name)
    elif suffix == ARCHIVE_SUFFIX:
        yield from list_archive(path, name)
    elif suffix in IMAGE_SUFFIXES:
        yield file_entry(path, name)
    elif path.lower().endswith(PACKED_SUFFIXES):
        raise UsageError(f"{path} is compressed; unpack it to a .tar or a folder first")
    else:
        yield from _list_list(path)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _list_list(path: str) -> Iterator[Entry]:
    for row in read_table(os.path.basename(path), file_part(path).read()):
        if row.problem is None:
            entry = file_entry(os.path.join(os.path.dirname(path), row.path), row.path)
            yield entry._replace(metadata=row.fields or None)
        else:
            yield Entry(row.path, problem=row.problem)


def _list_folder(top: str, prefix: str) -> Iterator[Entry]:
    """Everything below a folder; links are followed to files inside it only."""
    inside = os.path.realpath(top)
    entries: dict[str, Entry] = {}
    tables: list[Entry] = []
    problems: list[Entry] = []

    def name_of(path: str) -> str:
        return posixpath.join(prefix, os.path.relpath(path, top).replace(os.sep, "/"))

    def refuse(error: OSError) -> None:
        problems.append(Entry(name_of(error.filename), problem=f"cannot be read: {error.strerror}"))

    for folder, folders, files in os.walk(top, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                problems.append(Entry(name_of(path), problem="a link to a folder: not followed"))
            elif _suffix(name) in IMAGE_SUFFIXES:
                problems.append(Entry(name_of(path), problem="a folder, not an image"))
        siblings = set(files)
        for name in files:
            path, suffix = os.path.join(folder, name), _suffix(name)
            if name.startswith("."):
                continue
            if name in METADATA:
                tables.append(file_entry(path, name_of(path), inside=inside))
            elif suffix == ARCHIVE_SUFFIX:
                archive = file_entry(path, name_of(path), inside=inside)
                problems += [archive] if archive.problem else list_archive(path, archive.name)
            elif suffix in IMAGE_SUFFIXES:
                entry = file_entry(path, name_of(path), inside=inside, siblings=siblings)
                entries[entry.name] = entry
            elif suffix in UNREAD_SUFFIXES or name.lower().endswith(PACKED_SUFFIXES):
                problems.append(Entry(name_of(path), problem=f"{suffix} is not read"))
    for table in tables:
        problems += _add_metadata(entries, table)
    yield from entries.values()
    yield from problems


def _add_metadata(entries: dict[str, Entry], table: Entry) -> Iterator[Entry]:
    """Give images the fields that a table has of them; what it names in vain is a problem."""
    if table.image is None:
        yield table
        return
    try:
        rows = list(read_table(posixpath.basename(table.name), table.image.read()))
    except UsageError as error:
        yield Entry(table.name, problem=str(error))
        return
    folder = posixpath.dirname(table.name)
    for row in rows:
        name = posixpath.normpath(posixpath.join(folder, row.path))
        if row.problem is not None:
            yield Entry(name, problem=row.problem)
        elif name not in entries:
            yield Entry(name, problem=f"named in {table.name}, but not an image below the folder")
        else:
            entries[name] = entries[name]._replace(metadata=row.fields)

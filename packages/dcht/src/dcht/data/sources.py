"""What there is to encode: images in folders, in tar archives, or named by a list.

Everything that looks like an image becomes an `Entry`. What cannot be read for a reason that shows
already, or must not be for safety, becomes an entry with its `problem`: nothing is passed over in
silence. Entries are sorted by name, so that the same inputs are the same work on every machine.
Nothing is ever unpacked: a member of an archive is a range of bytes in it (`dcht.data.archives`).
"""

from __future__ import annotations

import glob
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from dcht.data.archives import list_archive
from dcht.data.captions import METADATA, TEXT_SUFFIXES, merge_fields, read_table
from dcht.data.entries import SIDECARS, Entry, file_entry, file_part
from dcht.data.labels import CLASS_SUFFIX, LABEL, class_folders
from dcht.errors import UsageError
from dcht.images import FORMATS, IMAGE_SUFFIXES, UNREAD_SUFFIXES, unread_formats

ARCHIVE_SUFFIX = ".tar"
PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
MAX_PATTERN = 1_000_000
"""Paths that one pattern may stand for; every one is looked for."""


class Inputs(NamedTuple):
    """What some sources hold."""

    entries: list[Entry]
    """Sorted by name."""
    unread: list[str]
    """Names of files that look like captions or labels and were not read, sorted."""


def list_inputs(sources: str | Path | Sequence[str | Path]) -> list[Entry]:
    """Every input that some sources hold, sorted by name: the entries of `find_inputs`."""
    return find_inputs(sources).entries


def find_inputs(sources: str | Path | Sequence[str | Path]) -> Inputs:
    """Every input that some sources hold, and what beside them was not read.

    A source is a folder (searched with all its subfolders for images and tar archives), a tar
    archive, an image, a list (one path a line, or `.jsonl` or `.csv` with a `file_name` and
    captions; paths are relative to the list), or a pattern of such: `shards/{00000..00099}.tar`,
    `shards/*.tar`. Names are relative to the folder, or to what several sources have in common.

    Raises:
        UsageError: a source is not there, is none of these, or there is nothing in any of them
            that could be read.
    """
    given = [sources] if isinstance(sources, str | Path) else sources
    paths = [os.path.abspath(path) for source in given for path in _expand(str(source))]
    alone = len(paths) == 1 and os.path.isdir(paths[0])
    root = paths[0] if alone else os.path.commonpath([os.path.dirname(path) for path in paths])
    unread: list[str] = []
    found = [entry for path in paths for entry in _list_source(path, root, unread)]
    # A name is a place: what two sources share is one input.
    entries = list({entry.name: entry for entry in reversed(found)}.values())
    named = ", ".join(map(str, given))
    if not entries:
        raise UsageError(f"{named} holds no images ({', '.join(FORMATS)}, or .tar of them)")
    if all(_suffix(entry.name) in UNREAD_SUFFIXES for entry in entries):
        foreign = unread_formats(entry.name for entry in entries)
        raise UsageError(f"{named} holds no images that can be used: {foreign}")
    return Inputs(sorted(entries, key=lambda entry: entry.name), sorted(unread))


def _expand(source: str) -> list[str]:
    """The paths that a pattern stands for, in order; a path that exists stands for itself."""
    if os.path.lexists(source):
        return [source]
    paths: list[str] = []
    for word in _expand_braces(source):
        found = sorted(islice(glob.iglob(word), MAX_PATTERN + 1)) or [word]
        if not os.path.lexists(found[0]):
            raise UsageError(
                f"{found[0]} is not there; expected a folder of images, .tar archives or a list"
            )
        paths += found
        if len(paths) > MAX_PATTERN:
            raise UsageError(f"{source} stands for more than {MAX_PATTERN:,} paths; give a folder")
    return paths


def _expand_braces(word: str) -> Iterator[str]:
    """`{a,b}` and `{08..11}`, as a shell does it, one word at a time."""
    found = re.search(r"\{([^{}]*)\}", word)
    if found is None:
        yield word
        return
    for choice in _choices(found[1]):
        yield from _expand_braces(word[: found.start()] + choice + word[found.end() :])


def _choices(text: str) -> Iterator[str]:
    limits = re.fullmatch(r"([0-9]{1,18})\.\.([0-9]{1,18})", text)
    if limits is None:
        yield from text.split(",")
        return
    width, first, last = len(limits[1]), int(limits[1]), int(limits[2])
    step = 1 if first <= last else -1
    for number in range(first, last + step, step):
        yield f"{number:0{width}d}"


def _list_source(path: str, root: str, unread: list[str]) -> Iterator[Entry]:
    name = os.path.relpath(path, root).replace(os.sep, "/")
    suffix = _suffix(path)
    if os.path.isdir(path):
        yield from _list_folder(path, "" if name == "." else name, unread)
    elif suffix == ARCHIVE_SUFFIX:
        yield from list_archive(path, name, unread)
    elif suffix in IMAGE_SUFFIXES:
        yield file_entry(path, name)
    elif suffix in UNREAD_SUFFIXES:
        yield Entry(name, problem=f"{suffix} is not read")
    elif path.lower().endswith(PACKED_SUFFIXES):
        raise UsageError(f"{path} is compressed; unpack it to a .tar or a folder first")
    else:
        yield from _list_list(path, posixpath.dirname(name))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _list_list(path: str, prefix: str) -> Iterator[Entry]:
    """The images that a list names, each once, whatever number of its rows name it."""
    folder = os.path.dirname(path)
    rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in read_table(os.path.basename(path), file_part(path).read()):
        if row.problem is None:
            rows[row.path].append(row.fields)
        else:
            yield Entry(posixpath.join(prefix, row.path), problem=row.problem)
    for name, fields in rows.items():
        entry = file_entry(os.path.join(folder, name), posixpath.join(prefix, name))
        yield entry.with_table(merge_fields(fields))


def _list_folder(top: str, prefix: str, unread: list[str]) -> Iterator[Entry]:
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
        stems = {os.path.splitext(name)[0] for name in files if _suffix(name) in IMAGE_SUFFIXES}
        for name in files:
            path, suffix = os.path.join(folder, name), _suffix(name)
            if name.startswith("."):
                continue
            if name in METADATA:
                tables.append(file_entry(path, name_of(path), inside=inside))
            elif suffix == ARCHIVE_SUFFIX:
                archive = file_entry(path, name_of(path), inside=inside)
                problems += (
                    [archive] if archive.problem else list_archive(path, archive.name, unread)
                )
            elif suffix in IMAGE_SUFFIXES:
                entry = file_entry(path, name_of(path), inside=inside, siblings=siblings)
                entries[entry.name] = entry
            elif suffix in UNREAD_SUFFIXES or name.lower().endswith(PACKED_SUFFIXES):
                problems.append(Entry(name_of(path), problem=f"{suffix} is not read"))
            elif suffix in TEXT_SUFFIXES:
                stem, exact = os.path.splitext(name)
                if not (exact in (*SIDECARS, CLASS_SUFFIX) and stem in stems):
                    unread.append(name_of(path))
    problems += _add_metadata(entries, tables)
    _add_classes(entries, prefix)
    yield from entries.values()
    yield from problems


def _add_metadata(entries: dict[str, Entry], tables: Sequence[Entry]) -> Iterator[Entry]:
    """Give images the fields that tables have of them; what they name in vain is a problem."""
    fields: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for table in sorted(tables, key=lambda table: table.name):
        folder, base = posixpath.split(table.name)
        if table.image is None:
            yield table
            continue
        try:
            for row in read_table(base, table.image.read()):
                name = posixpath.normpath(posixpath.join(folder, row.path))
                if row.problem is not None:
                    yield Entry(name, problem=row.problem)
                elif name not in entries:
                    reason = f"named in {table.name}, but not an image below the folder"
                    yield Entry(name, problem=reason)
                else:
                    fields[name].append(row.fields)
        except UsageError as error:
            yield Entry(table.name, problem=str(error))
    for name, rows in fields.items():
        entries[name] = entries[name].with_table(merge_fields(rows))


def _add_classes(entries: dict[str, Entry], prefix: str) -> None:
    """Give images in folders of their classes a label, where nothing else is said of any image."""
    if any(entry.text or entry.fields or entry.metadata for entry in entries.values()):
        return
    below = {posixpath.relpath(name, prefix or "."): name for name in entries}
    for name, label in class_folders(below).items():
        entries[below[name]] = entries[below[name]].with_table({LABEL: label})

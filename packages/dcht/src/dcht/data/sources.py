"""What there is to encode: images in folders, in tar archives, in Parquet, or named by a list.

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
from dcht.data.beside import FindName, among, suffix_of
from dcht.data.captions import merge_fields
from dcht.data.columnar import ARROW, PARQUET, has_images, list_arrow, list_parquet
from dcht.data.entries import Entry, file_entry, file_part
from dcht.data.folders import ARCHIVE_SUFFIX, PACKED_SUFFIXES, Found, is_folder, list_folder
from dcht.data.hub import is_repository, list_repository
from dcht.data.tables import read_table
from dcht.errors import UsageError
from dcht.images import FORMATS, IMAGE_SUFFIXES, UNREAD_SUFFIXES, unread_formats

MAX_PATTERN = 1_000_000
"""Paths that one pattern may stand for; every one is looked for."""


class Inputs(NamedTuple):
    """What some sources hold."""

    entries: list[Entry]
    """Sorted by name."""
    unread: list[str]
    """Names of files that look like captions or labels and were not read, sorted."""
    tables: list[str]
    """Names of the tables in folders that captions and labels were read from, sorted."""


def list_inputs(
    sources: str | Path | Sequence[str | Path],
    *,
    follow_links: bool = False,
    out: str | Path | None = None,
) -> list[Entry]:
    """Every input that some sources hold, sorted by name: the entries of `find_inputs`."""
    return find_inputs(sources, follow_links=follow_links, out=out).entries


def find_inputs(
    sources: str | Path | Sequence[str | Path],
    *,
    follow_links: bool = False,
    out: str | Path | None = None,
) -> Inputs:
    """Every input that some sources hold, and what beside them was not read.

    A source is a folder (searched with all its subfolders for images, tar archives, Parquet and
    Arrow files), one of these files, a list (one path a line, or a table of `dcht.data.tables` with
    a `file_name` and captions; paths are relative to the list), or a pattern of such:
    `shards/{00000..00099}.tar`, `shards/*.tar`; or a repository of the Hub, `hf://user/name`.
    Names are relative to the folder, or to what several sources have in common.

    Args:
        sources: one or several.
        follow_links: whether links in folders may lead out of them, and to folders.
        out: the folder that the command writes: below a source, or among those that a pattern
            stands for, it is no input, or the command would read on repeat what it wrote.

    Raises:
        UsageError: a source is not there, is none of these, or there is nothing in any of them
            that could be read; or an extra is missing.
    """
    given = [sources] if isinstance(sources, str | Path) else sources
    remote = [str(source) for source in given if is_repository(str(source))]
    local = [str(source) for source in given if not is_repository(str(source))]
    paths = [os.path.abspath(path) for source in local for path in _expand(source)]
    paths = _without(out, paths)
    beside = Found()
    found = [entry for source in remote for entry in list_repository(source, beside)]
    if paths:
        alone = len(paths) == 1 and os.path.isdir(paths[0])
        root = paths[0] if alone else os.path.commonpath([os.path.dirname(path) for path in paths])
        found += [
            entry for path in paths for entry in _list_source(path, root, beside, follow_links, out)
        ]
    entries = [_merge(same) for same in _by_name(found).values()]
    named = ", ".join(map(str, given))
    if not entries:
        raise UsageError(
            f"{named} holds no images ({', '.join(FORMATS)}, or .tar or .parquet of them)"
        )
    if all(suffix_of(entry.name) in UNREAD_SUFFIXES for entry in entries):
        foreign = unread_formats(entry.name for entry in entries)
        raise UsageError(f"{named} holds no images that can be used: {foreign}")
    entries.sort(key=lambda entry: entry.name)
    return Inputs(entries, sorted(beside.unread), sorted(beside.tables))


def _without(out: str | Path | None, paths: list[str]) -> list[str]:
    """Paths but for `out`, unless that is the only one: `photos/*` stands for `photos/seen` too."""
    others = [path for path in paths if out is None or not is_folder(path, out)]
    return others or paths


def _by_name(found: Sequence[Entry]) -> dict[str, list[Entry]]:
    """A name is a place: what two sources share is one input."""
    same: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in found:
        same[entry.name].append(entry)
    return same


def _merge(same: Sequence[Entry]) -> Entry:
    """The first of several entries of one name, with what the tables of all say of it."""
    fields = [entry.metadata for entry in same if entry.metadata]
    return same[0]._replace(metadata=merge_fields(fields)) if fields else same[0]


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


def _list_source(
    path: str, root: str, beside: Found, follow_links: bool, out: str | Path | None
) -> Iterator[Entry]:
    name = os.path.relpath(path, root).replace(os.sep, "/")
    suffix = suffix_of(path)
    if os.path.isdir(path):
        prefix = "" if name == "." else name
        yield from list_folder(path, prefix, beside, follow_links=follow_links, out=out)
    elif suffix == ARCHIVE_SUFFIX:
        yield from list_archive(path, name, beside.unread)
    elif suffix == ARROW:
        yield from list_arrow(path, name)
    elif suffix == PARQUET and has_images(path):
        yield from list_parquet(path, name)
    elif suffix in IMAGE_SUFFIXES:
        yield file_entry(path, name)
    elif suffix in UNREAD_SUFFIXES:
        yield Entry(name, problem=f"{suffix} is not read")
    elif path.lower().endswith(PACKED_SUFFIXES):
        raise UsageError(f"{path} is compressed; unpack it to a .tar or a folder first")
    else:
        yield from _list_list(path, posixpath.dirname(name))


def _list_list(path: str, prefix: str) -> Iterator[Entry]:
    """The images that a list names, each once, whatever number of its rows name it."""
    folder = os.path.dirname(path)
    rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in read_table(os.path.basename(path), file_part(path).read()):
        if row.problem is None:
            rows[posixpath.normpath(row.path)].append(row.fields)
        else:
            yield Entry(posixpath.join(prefix, row.path), problem=row.problem)
    finds: dict[str, FindName] = {}
    for name, fields in rows.items():
        image = os.path.join(folder, name)
        place = os.path.dirname(image)
        if place not in finds:
            finds[place] = _among_files(place)
        label = posixpath.normpath(posixpath.join(prefix, name))
        entry = file_entry(image, label, find=finds[place])
        yield entry.with_table(merge_fields(fields))


def _among_files(folder: str) -> FindName:
    try:
        return among(os.path.join(folder, name) for name in os.listdir(folder))
    except (OSError, ValueError):  # it is not there, or no name at all: its images say so
        return among([])

"""Everything below a folder: images with what stands beside them, archives and tables.

Links are followed to files inside the folder only, and, in a snapshot of the Hub's cache, to the
blobs that it consists of; or everywhere, if that is asked for.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcht.data.archives import list_archive
from dcht.data.beside import among, find_beside, suffix_of
from dcht.data.captions import TEXT_SUFFIXES, merge_fields
from dcht.data.columnar import ARROW, PARQUET, has_images, list_arrow, list_parquet
from dcht.data.entries import Entry, file_entry, file_part
from dcht.data.labels import LABEL, class_folders
from dcht.data.tables import METADATA, TABLES, first_path, read_table
from dcht.errors import UsageError
from dcht.files import ERRORS, read_json
from dcht.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES, ImageError

ARCHIVE_SUFFIX = ".tar"
PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
SAVED = ("state.json", "dataset_info.json", "dataset_dict.json")
"""What `save_to_disk` of `datasets` writes beside its Arrow files; the first names them."""


@dataclass
class Found:
    """What was found beside the images, of all sources."""

    unread: list[str] = field(default_factory=list)
    """Files that look like captions or labels and were not read."""
    tables: list[str] = field(default_factory=list)
    """Tables that captions or labels were read from."""


def list_folder(
    top: str, prefix: str, found: Found, *, follow_links: bool, out: str | Path | None = None
) -> Iterator[Entry]:
    """The inputs below a folder, in no particular order.

    Args:
        top: the folder.
        prefix: what the names of its entries begin with.
        found: gets the names of tables, and of what was not read.
        follow_links: whether links may lead out of the folder, and to folders.
        out: a folder that is passed over with all below it, if it is below this one.

    Raises:
        UsageError: a folder below it has two tables, and neither is called `metadata`.
    """
    yield from _Walk(top, prefix, found, follow_links, out).entries()


def is_folder(path: str, folder: str | Path) -> bool:
    """Whether a path leads to a folder, which need not be there."""
    return os.path.realpath(path) == os.path.realpath(folder)


class _Walk:
    def __init__(
        self, top: str, prefix: str, found: Found, follow_links: bool, out: str | Path | None
    ) -> None:
        self.top, self.prefix, self.found, self.out = top, prefix, found, out
        self.follow_links = follow_links
        self.inside = None if follow_links else _homes(top)
        self.images: dict[str, Entry] = {}
        self.tables: list[Entry] = []
        self.others: list[Entry] = []
        """Members of archives and rows of files, and what is wrong."""

    def entries(self) -> Iterator[Entry]:
        seen = {os.path.realpath(self.top)}
        for folder, folders, files in os.walk(
            self.top, onerror=self._refuse, followlinks=self.follow_links
        ):
            folders[:] = [name for name in folders if self._is_searched(folder, name)]
            for name in list(folders):
                path = os.path.join(folder, name)
                if os.path.islink(path):
                    real = os.path.realpath(path)
                    if not self.follow_links:
                        self._problem(path, "a link to a folder: not followed")
                    elif real in seen:  # it may lead in a circle
                        folders.remove(name)
                    seen.add(real)
                elif suffix_of(name) in IMAGE_SUFFIXES:
                    self._problem(path, "a folder, not an image")
            self._visit(folder, [name for name in files if not name.startswith(".")])
        self.others += self._add_metadata()
        self._add_classes()
        yield from self.images.values()
        yield from self.others

    def _is_searched(self, folder: str, name: str) -> bool:
        if name.startswith("."):
            return False
        return self.out is None or not is_folder(os.path.join(folder, name), self.out)

    def _name(self, path: str) -> str:
        return posixpath.join(self.prefix, os.path.relpath(path, self.top).replace(os.sep, "/"))

    def _problem(self, path: str, reason: str) -> None:
        self.others.append(Entry(self._name(path), problem=reason))

    def _refuse(self, error: OSError) -> None:
        self._problem(error.filename, f"cannot be read: {error.strerror}")

    def _visit(self, folder: str, files: list[str]) -> None:
        """Sort the files of one folder."""
        paths = [os.path.join(folder, name) for name in files]
        find = among(paths)
        used: set[str] = set()
        for path in paths:
            if suffix_of(path) in IMAGE_SUFFIXES:
                entry = file_entry(path, self._name(path), inside=self.inside, find=find)
                self.images[entry.name] = entry
                used.update(find_beside([os.path.splitext(path)[0]], find).names())
        saved = _saved_arrow(folder, files)
        if saved is not None:
            used.update(os.path.join(folder, name) for name in SAVED)
        tables: list[str] = []
        for path, name in zip(paths, files, strict=True):
            suffix = suffix_of(name)
            if suffix in IMAGE_SUFFIXES or path in used:
                continue
            if suffix == ARCHIVE_SUFFIX:
                self._read(path, lambda path, name: list_archive(path, name, self.found.unread))
            elif suffix == ARROW:
                if saved is None or name in saved:
                    self._read(path, list_arrow)
            elif suffix == PARQUET and self._holds_images(path):
                self._read(path, list_parquet)
            elif suffix in UNREAD_SUFFIXES or name.lower().endswith(PACKED_SUFFIXES):
                self._problem(path, f"{suffix} is not read")
            elif suffix in TABLES and name != ERRORS:
                tables.append(path)
            elif suffix in TEXT_SUFFIXES:
                self.found.unread.append(self._name(path))
        self._pick_tables(folder, tables)

    def _read(self, path: str, read: Any) -> None:
        """Add what a file of several images holds."""
        try:
            file_part(path, inside=self.inside)
        except ImageError as error:
            self._problem(path, str(error))
        else:
            self.others += read(path, self._name(path))

    def _holds_images(self, path: str) -> bool:
        try:
            file_part(path, inside=self.inside)
            return has_images(path)
        except ImageError:
            return True  # and reading it says what is wrong

    def _pick_tables(self, folder: str, paths: Sequence[str]) -> None:
        """The tables of one folder: those called `metadata`, or else the one that names images."""
        chosen = [path for path in paths if os.path.basename(path) in METADATA]
        if not chosen:
            chosen = [path for path in paths if self._is_table(path)]
            if len(chosen) > 1:
                names = " and ".join(sorted(map(os.path.basename, chosen)))
                raise UsageError(
                    f"{self._name(folder) or folder} has {len(chosen)} tables of images, {names}; "
                    f"call one of them metadata{suffix_of(chosen[0])}"
                )
        for path in paths:
            if path in chosen:
                self.tables.append(file_entry(path, self._name(path), inside=self.inside))
            else:
                self.found.unread.append(self._name(path))

    def _is_table(self, path: str) -> bool:
        try:
            content = file_part(path, inside=self.inside).read()
        except ImageError:
            return False
        first = first_path(os.path.basename(path), content)
        if first is None:
            return False
        named = os.path.join(os.path.dirname(path), first)
        return any(os.path.lexists(named + suffix) for suffix in ("", *IMAGE_SUFFIXES))

    def _add_metadata(self) -> Iterator[Entry]:
        """Give images the fields that tables have of them; what they name in vain is a problem."""
        fields: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        # Kohya's JSON leaves the suffix out; where two images share a name it says neither.
        stems = Counter(posixpath.splitext(name)[0] for name in self.images)
        plain = {posixpath.splitext(name)[0]: name for name in self.images}
        plain = {stem: name for stem, name in plain.items() if stems[stem] == 1}
        for table in sorted(self.tables, key=lambda table: table.name):
            folder, base = posixpath.split(table.name)
            if table.image is None:
                yield table
                continue
            self.found.tables.append(table.name)
            try:
                for row in read_table(base, table.image.read()):
                    name = posixpath.normpath(posixpath.join(folder, row.path))
                    name = plain.get(name, name)
                    if row.problem is not None:
                        yield Entry(name, problem=row.problem)
                    elif name not in self.images:
                        reason = f"named in {table.name}, but not an image below the folder"
                        yield Entry(name, problem=reason)
                    else:
                        fields[name].append(row.fields)
            except UsageError as error:
                yield Entry(table.name, problem=str(error))
        for name, rows in fields.items():
            self.images[name] = self.images[name].with_table(merge_fields(rows))

    def _add_classes(self) -> None:
        """Give images in folders of classes a label, where nothing else is said of any image."""
        images = self.images
        if any(entry.text or entry.fields or entry.metadata for entry in images.values()):
            return
        below = {posixpath.relpath(name, self.prefix or "."): name for name in images}
        for name, label in class_folders(below).items():
            images[below[name]] = images[below[name]].with_table({LABEL: label})


def _homes(top: str) -> list[str]:
    """Where the links of a folder may end."""
    real = Path(os.path.realpath(top))
    for repository in real.parents:
        # The Hub's cache: datasets--USER--NAME/snapshots/REVISION has links into .../blobs.
        if "--" in repository.name and repository / "snapshots" in (real, *real.parents):
            return [str(real), str(repository / "blobs")]
    return [str(real)]


def _saved_arrow(folder: str, files: Sequence[str]) -> set[str] | None:
    """The Arrow files of a folder that `save_to_disk` wrote, beside which it caches others.

    None for a folder that it did not write.
    """
    if not any(name in SAVED for name in files):
        return None
    try:
        listed = read_json(os.path.join(folder, SAVED[0]))["_data_files"]
        return {str(row["filename"]) for row in listed}
    except (OSError, UsageError, KeyError, TypeError):
        return set(files)

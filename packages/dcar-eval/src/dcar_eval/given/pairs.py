"""Which images are of which prompt: by a table that pairs them, or by their names in a folder.

A table is `.csv` or `.jsonl` with a path (`file_name`, `file`, `path`, `image`) and a `prompt`
(or `caption`, `text`), or a `.json` object of prompts with a path or several each. Paths are
relative to the table. In a folder the images of `KEY` are `KEY.png` or whatever lies in `KEY/`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dcht.data.tables import read_table
from dcht.errors import UsageError
from dcht.files import open_regular, read_json
from dcht.images import IMAGE_SUFFIXES, list_images

TABLES = (".csv", ".jsonl", ".json")
PROMPT_COLUMNS = ("prompt", "caption", "text")


class Paired(NamedTuple):
    """An image of a prompt."""

    key: str
    """Of the prompt."""
    name: str
    """Path below the folder of the images, parts joined by `/`."""


class Pairs(NamedTuple):
    """Images that are there, and where."""

    folder: Path
    images: list[Paired]
    """By prompt, in the prompts' order; those of a prompt in the table's, or by name."""


def find_pairs(place: Path, prompts: Mapping[str, str]) -> Pairs:
    """The images of some prompts in a folder, or as a table pairs them.

    Args:
        place: the folder or the table; rows of other prompts are of another part of a benchmark.
        prompts: by key.

    Raises:
        UsageError: it is neither, or holds no image of any.
    """
    if place.is_dir():
        found = list(_of_folder(place, prompts))
        folder = place
    elif place.suffix.lower() in TABLES and place.is_file():
        found = list(_of_table(place, prompts))
        folder = place.parent
    else:
        raise UsageError(
            f"{place} is no folder of images, and no table of images and prompts "
            f"({', '.join(TABLES)})"
        )
    if not found:
        raise UsageError(f"{place} has no image of the {len(prompts)} prompts that are asked for")
    order = {key: number for number, key in enumerate(prompts)}
    return Pairs(folder, sorted(found, key=lambda image: order[image.key]))


def _of_folder(folder: Path, prompts: Mapping[str, str]) -> Iterator[Paired]:
    alone: dict[str, str] = {}
    for path in list_images(folder):
        name = path.relative_to(folder).as_posix()
        parts = PurePosixPath(name).parts
        key = PurePosixPath(name).stem if len(parts) == 1 else parts[0]
        if key not in prompts:
            continue
        if len(parts) == 1:
            if key in alone:
                raise UsageError(f"{folder} has {key} twice: {alone[key]} and {name}")
            alone[key] = name
        yield Paired(key, name)


def _of_table(table: Path, prompts: Mapping[str, str]) -> Iterator[Paired]:
    keys = {prompt: key for key, prompt in prompts.items()}
    seen: set[str] = set()
    for place, prompt, name in _rows(table):
        if posixpath.isabs(name):
            raise UsageError(f"{place}: {name} should be relative to the table")
        if name in seen:
            raise UsageError(f"{place}: {name} is there twice")
        seen.add(name)
        key = keys.get(prompt, prompt if prompt in prompts else None)
        if key is not None:
            yield Paired(key, name)


def _rows(table: Path) -> Iterator[tuple[str, str, str]]:
    """Where a row is, its prompt, and its image."""
    if table.suffix.lower() == ".json":
        for prompt, names in read_json(table).items():
            for name in names if isinstance(names, list) else [names]:
                if not isinstance(name, str):
                    raise UsageError(f"{table}: {prompt!r} has {name!r}; expected a path")
                yield str(table), prompt, name
        return
    with open_regular(table) as file:
        content = file.read()
    for number, row in enumerate(read_table(str(table), content), start=1):
        if row.problem is not None:
            raise UsageError(f"{row.path}: {row.problem.removeprefix(f'{row.path} ')}")
        column = next((name for name in PROMPT_COLUMNS if name in row.fields), None)
        if column is None:
            raise UsageError(
                f"{table} row {number} has no {' or '.join(PROMPT_COLUMNS)}; its fields are "
                f"{', '.join(sorted(row.fields)) or 'none'}"
            )
        yield f"{table} row {number}", str(row.fields[column]), row.path


def numbered(folder: Path, names: Sequence[str]) -> dict[int, str]:
    """Of some names of files in a folder those of images that are called by a number, by it.

    Raises:
        UsageError: a number is there twice.
    """
    found: dict[int, str] = {}
    for name in sorted(names):
        stem, suffix = posixpath.splitext(name)
        if not stem.isdecimal() or suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if int(stem) in found:
            raise UsageError(f"{folder} has image {int(stem)} twice: {found[int(stem)]} and {name}")
        found[int(stem)] = name
    return found

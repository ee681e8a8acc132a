"""The class of an image, as data sets say it: a `.cls`, a column `label`, or the folder it is in.

A label is a class's number or its name. In a row it is the field `label`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

LABEL = "label"
CLASS_SUFFIX = ".cls"
"""A file, or a member of an archive, beside an image: WebDataset's."""
MAX_LABEL = 4096
"""Bytes of the largest `.cls` that is read."""


def parse_label(text: str) -> int | str:
    """A label as a text has it: the number that it is, or else the name."""
    text = text.strip()
    # No other way to write the number: what has leading zeros is a name.
    return int(text) if re.fullmatch("0|[1-9][0-9]{0,8}", text) else text


def class_folders(names: Iterable[str]) -> dict[str, int | str]:
    """The labels of images in folders of their classes, by name; nothing where they are in none.

    Folders are classes where there are several, and every image is in one of them, directly.

    Args:
        names: of all images, below the folder that holds them.
    """
    found = {name: posixpath.dirname(name) for name in names}
    folders = set(found.values())
    if len(folders) < 2 or any(not folder or "/" in folder for folder in folders):
        return {}
    return {name: parse_label(folder) for name, folder in found.items()}

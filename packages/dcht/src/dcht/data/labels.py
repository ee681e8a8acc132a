"""The class of an image, as data sets say it: a `.cls`, a column `label`, or the folder it is in.

A label is a class's number or its name. In a row it is the field `label`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Any

from dcht.data.captions import decode_text
from dcht.errors import UsageError

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


def plain_label(value: Any) -> Any:
    """A label that is a whole number as one: pandas writes 3.0 where another one is missing."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def decode_class(content: bytes) -> int | str:
    """The class that a `.cls` holds.

    Raises:
        UsageError: it holds none, or several.
    """
    text = decode_text(CLASS_SUFFIX, content).strip()
    if not text or "\n" in text:
        raise UsageError(
            f"{CLASS_SUFFIX} holds {text[:20]!r}; expected one class: a number or a name"
        )
    return parse_label(text)


def encode_class(label: object) -> bytes | None:
    """The `.cls` that says a label; None where none would give it back as it is."""
    try:
        content = f"{label}\n".encode()
        same = len(content) <= MAX_LABEL and decode_class(content) == label
    except (UnicodeEncodeError, UsageError):
        return None
    return content if same else None


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
    # "08" is a name as it is written, and so is then "10" beside it.
    padded = any(re.fullmatch("0[0-9]+", folder) for folder in folders)
    return {name: folder if padded else parse_label(folder) for name, folder in found.items()}

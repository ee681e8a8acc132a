"""What stands beside an image: which files, or members of an archive, belong to which image.

A caption is in `.txt`, Kohya's `.caption` or `.cap`; fields are in `.json`, a class in `.cls`.
Names match whatever the case of their letters, as cameras and Windows write them: `A.JPG`, `a.TXT`.
"""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dcht.data.labels import CLASS_SUFFIX
from dcht.images import IMAGE_SUFFIXES

TEXTS = (".txt", ".caption", ".cap")
"""Where captions are, one a line; the first that is there is read."""
FIELDS = ".json"

FindName = Callable[[str], str | None]
"""A name as it is spelled, if there is one like it."""


class Beside(NamedTuple):
    """The names of what stands beside an image; None for what is not there."""

    text: str | None
    fields: str | None
    label: str | None

    def names(self) -> list[str]:
        """Those that are there."""
        return [name for name in self if name is not None]


def find_beside(stems: Sequence[str], find: FindName) -> Beside:
    """What stands beside an image, by the names that its own may end at."""

    def first(*suffixes: str) -> str | None:
        names = (find(stem + suffix) for suffix in suffixes for stem in stems)
        return next((name for name in names if name is not None), None)

    return Beside(first(*TEXTS), first(FIELDS), first(CLASS_SUFFIX))


def among(names: Iterable[str]) -> FindName:
    """Finds a name among these: the very one, or else the first that differs in case alone.

    What has the very stem of another image is that one's: `aBc.txt` is not found for `AbC.png`
    where `aBc.png` is.
    """
    exact = set(names)
    images = {posixpath.splitext(name)[0] for name in exact if suffix_of(name) in IMAGE_SUFFIXES}
    folded: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(exact):
        folded[name.casefold()].append(name)

    def find(name: str) -> str | None:
        if name in exact:
            return name
        for like in folded.get(name.casefold(), []):
            stem = posixpath.splitext(like)[0]
            if suffix_of(like) in IMAGE_SUFFIXES or stem not in images or name.startswith(stem):
                return like
        return None

    return find


def on_disk(name: str) -> str | None:
    """A file that is there, or the one with its suffix in capitals."""
    stem, suffix = os.path.splitext(name)
    return next((there for there in (name, stem + suffix.upper()) if os.path.lexists(there)), None)


def is_twin(name: str) -> bool:
    """Whether a member of an archive is what macOS adds to a file: no image, whatever its name.

    On disk such names are hidden, and left out as all hidden ones are.
    """
    return name.startswith("__MACOSX/") or posixpath.basename(name).startswith("._")


def suffix_of(name: str) -> str:
    """The suffix of a name in small letters."""
    return posixpath.splitext(name)[1].lower()

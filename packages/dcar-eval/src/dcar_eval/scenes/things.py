"""The big world: hundreds of things by the names that people type, each with its sprite.

`things.json` lists, for the label that emojibase gives a sprite, the names of what it shows: the
first is the one that a recogniser answers with, the others mean the same ("bike", "bicycle"). The
sixty-two classes of GenEval are among them, under GenEval's names.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from dcar_eval.scenes.world import NEVER_COLOURED

PEOPLE = (
    "angel", "artist", "astronaut", "baby", "boy", "builder", "chef", "child", "dancer",
    "detective", "elf", "fairy", "farmer", "firefighter", "genie", "girl", "grandfather",
    "grandmother", "guard", "judge", "man", "mechanic", "mermaid", "ninja", "pilot",
    "police officer", "prince", "princess", "santa", "scientist", "singer", "student", "superhero",
    "teacher", "vampire", "wizard", "woman", "zombie", *NEVER_COLOURED,
)  # fmt: skip
"""Nobody is painted red."""


@cache
def labels() -> dict[str, str]:
    """Every name to the label of its sprite."""
    return {name: label for label, names in _table().items() for name in names}


def things() -> tuple[str, ...]:
    """Every name, in alphabetical order."""
    return tuple(sorted(labels()))


@cache
def same_things() -> dict[str, str]:
    """Every name to the first of the names that mean the same."""
    return {name: names[0] for names in _table().values() for name in names}


@cache
def _table() -> dict[str, list[str]]:
    text = resources.files("dcar_eval").joinpath("scenes", "things.json").read_text("utf-8")
    return json.loads(text)

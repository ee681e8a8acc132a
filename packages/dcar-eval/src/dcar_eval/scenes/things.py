"""The big world: hundreds of things by the names that people type, each with its sprite.

`things.json` lists, for the label that emojibase gives a sprite, the names of what it shows: the
first is the one that a recognizer answers with, the others mean the same ("bike", "bicycle"). The
sixty-two classes of GenEval are among them, under GenEval's names.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from functools import cache
from importlib import resources

from dcar_eval.scenes.world import NEVER_COLORED, SPRITE_LABELS, WORLDS
from dcht.errors import UsageError

BIG = "things"
"""What `--objects` calls this world."""

PEOPLE = (
    "angel", "artist", "astronaut", "baby", "boy", "builder", "chef", "child", "dancer",
    "detective", "elf", "fairy", "farmer", "firefighter", "genie", "girl", "grandfather",
    "grandmother", "guard", "judge", "man", "mechanic", "mermaid", "ninja", "pilot",
    "police officer", "prince", "princess", "santa", "scientist", "singer", "student", "superhero",
    "teacher", "vampire", "wizard", "woman", "zombie", *NEVER_COLORED,
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


def parse_objects(text: str) -> tuple[str, ...]:
    """A world's name, or names of objects joined by commas.

    Raises:
        UsageError: a name that is not known, or fewer than two.
    """
    worlds = WORLDS | {BIG: things()}
    names = worlds.get(text) or tuple(word.strip() for word in text.split(","))
    unknown = [name for name in names if name not in labels()]
    if unknown:
        near = get_close_matches(unknown[0], things(), cutoff=0.5) or SPRITE_LABELS
        raise UsageError(
            f"object {unknown[0]!r} is not known; use {' or '.join(worlds)}, or names like "
            + ", ".join(list(near)[:3])
        )
    if len(set(names)) < 2:
        raise UsageError(f"objects {text!r}: two different ones are needed at least")
    return tuple(sorted(set(names)))

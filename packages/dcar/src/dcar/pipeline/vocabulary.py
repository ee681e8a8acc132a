"""The words of a small text encoder, in groups: what it can be asked for.

Which words there are is the checkpoint's; that `red` is a color is English.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

COLORS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white",
    "grey", "gray",
)  # fmt: skip
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLACES = (
    "left", "right", "above", "below", "over", "under", "beneath", "top", "bottom", "behind",
    "inside", "between",
)  # fmt: skip
SAME_IN_PLURAL = ("broccoli", "deer", "fish", "scissors", "sheep", "skis")
NAMED_THINGS = 40
"""How many things a sentence names before it says how many more there are."""


class Vocabulary(NamedTuple):
    """Known words by group; a word may be in two (an orange is a color and a fruit)."""

    things: list[str]
    """In alphabetical order. Recognized by their plural, which is known too."""
    colours: list[str]
    """Spelled as the key of `--list-words --json` is."""
    numbers: list[str]
    places: list[str]
    other: list[str]
    """All that is in no group, in alphabetical order."""

    def __str__(self) -> str:
        """What is worth asking for, in one line."""
        named, rest = self.things[:NAMED_THINGS], len(self.things) - NAMED_THINGS
        things = ", ".join(named) + (f" and {rest} things more" if rest > 0 else "")
        groups = (things, *map(", ".join, (self.colours, self.numbers, self.places)))
        return "; ".join(group for group in groups if group)


def group_words(words: Iterable[str]) -> Vocabulary:
    """Sort known words into groups."""
    known = set(words)

    def among(group: Sequence[str]) -> list[str]:
        return [word for word in group if word in known]

    # Two letters and an s are words of other kinds: "a" and "as", "it" and "its".
    countable = {
        word for word in known if len(word) > 2 and known & {f"{word}s", f"{word}es"}
    } | known.intersection(SAME_IN_PLURAL)
    plurals = {f"{word}{ending}" for word in countable for ending in ("s", "es")}
    groups = (sorted(countable), among(COLORS), among(NUMBERS), among(PLACES))
    return Vocabulary(*groups, sorted(known - plurals - {word for g in groups for word in g}))

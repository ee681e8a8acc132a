"""The words of a small text encoder, in groups: what it can be asked for.

Which words there are is the checkpoint's; that `red` is a color is English.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from dcar.modules.words import visible
from dcar.pipeline import TextToImage

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
NEAR, NEAREST = 0.7, 2
"""How like a word must be to be named as near to another (difflib's ratio), and how many are."""
GAP = r"[\s\-\u2010-\u2015\u2212]+"
"""Between the words of a name."""
NAMED_THINGS = 40
"""How many things a sentence names before it says how many more there are."""


class Vocabulary(NamedTuple):
    """Known words by group; a word may be in two (an orange is a color and a fruit)."""

    things: list[str]
    """In alphabetical order: the names that the checkpoint lists; of one without, every word whose
    plural is known too."""
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


def vocabulary_of(pipe: TextToImage) -> Vocabulary | None:
    """What a checkpoint knows; None: its text encoder reads any text."""
    words, joint = pipe.text.known_words(), pipe.model.config.text.joint
    if words is None:
        return None
    return group_words(words, () if joint is None else joint.names)


def group_words(words: Iterable[str], names: Sequence[str] = ()) -> Vocabulary:
    """Sort known words into groups.

    Args:
        words: all of them.
        names: of the things, whole; others are told by their plurals.
    """
    known = set(words)

    def among(group: Sequence[str]) -> list[str]:
        return [word for word in group if word in known]

    # Two letters and an s are words of other kinds: "a" and "as", "it" and "its".
    countable = {
        word for word in known if len(word) > 2 and known & {f"{word}s", f"{word}es"}
    } | known.intersection(SAME_IN_PLURAL)
    plurals = {f"{word}{ending}" for word in countable for ending in ("s", "es")}
    # Other plurals, where names are listed.
    plurals |= {f"{name[:-1]}ies" for name in names if name.endswith("y")}
    plurals |= {f"{name[:-3]}men" for name in names if name.endswith("man")}
    plurals |= {f"{name[:-1]}ves" for name in names if name.endswith("f")}
    plurals |= {f"{name}s" for name in names}  # "tvs", too
    # What a fine-tune learned beside the names of its start is told by its plural, too.
    learned = countable - {word for name in names for word in _words(name)}
    groups = (sorted({*names} | learned), among(COLORS), among(NUMBERS), among(PLACES))
    said = {word for group in groups for name in group for word in _words(name)} | countable
    return Vocabulary(*groups, sorted(known - plurals - said))


def nearest(word: str, vocabulary: Vocabulary) -> list[str]:
    """The known things, colors, numbers and places that are spelled most like a word.

    >>> nearest("foxs", group_words(["a", "fox", "foxes", "owl", "owls"]))
    ['fox']
    """
    candidates = [name for group in vocabulary[:4] for name in group]
    return get_close_matches(word.lower(), candidates, NEAREST, NEAR)


def parts_of_names(prompt: str, vocabulary: Vocabulary) -> dict[str, str]:
    """Words of a prompt that are known as a part of a name alone, each with that name.

    >>> parts_of_names("a truck", group_words(["fire", "truck", "trucks"], ["fire truck"]))
    {'truck': 'fire truck'}
    >>> parts_of_names("two fire trucks", group_words(["fire", "truck", "trucks"], ["fire truck"]))
    {}
    """
    rest = unicodedata.normalize("NFKC", visible(prompt)).lower()
    for name in sorted(vocabulary.things, key=len, reverse=True):
        # People join or part the words of a name by any blank, or by a dash.
        parts = GAP.join(map(re.escape, re.split(GAP, name)))
        rest = re.sub(rf"\b{parts}(e?s)?\b", " ", rest)
    alone = {*vocabulary.colours, *vocabulary.numbers, *vocabulary.places, *vocabulary.other}
    within = {
        word: name
        for name in reversed(vocabulary.things)
        for word in _words(name)
        if word not in alone and len(_words(name)) > 1
    }
    return {
        word: within[base]
        for word in _words(rest)
        for base in _singulars(word)
        if base in within and base not in vocabulary.things
    }


def _words(name: str) -> list[str]:
    return re.findall(r"\w+", name)


def _singulars(word: str) -> Iterator[str]:
    yield word
    yield word.removesuffix("s")
    yield word.removesuffix("es")

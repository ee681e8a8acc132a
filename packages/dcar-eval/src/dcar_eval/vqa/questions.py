"""What is asked of an image, and what a benchmark of questions consists of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Question(NamedTuple):
    """A question about an image, as the judge is asked it, and its right answer."""

    text: str
    right: str

    def spellings(self) -> list[str]:
        """How a judge may begin the right answer: small and capital, a number in digits too."""
        word = self.right.strip()
        found = [word, word.lower(), word.capitalize()]
        if word.lower() in NUMBERS:
            found.append(str(NUMBERS.index(word.lower())))
        return list(dict.fromkeys([*found, *(f" {spelling}" for spelling in found)]))


class Answer(NamedTuple):
    """What a judge makes of a question."""

    probability: float
    """Of the right answer, in [0, 1]."""
    said: bool
    """Whether the right answer is the most likely one."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A prompt with the questions that are asked of its images."""

    key: str
    """What its images are called after."""
    prompt: str
    questions: list[Question]
    facts: dict[str, Any] = field(default_factory=dict)
    """What the benchmark scores by, of each question or of the prompt."""


Scored = tuple[Item, dict[str, Any]]
"""An image: its item, and what `Benchmark.score` made of the judge's answers."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark of questions, as its file has it."""

    name: str
    items: list[Item]
    sha256: str
    """Of the file."""
    file: str
    """What the published file is, in words, if this is not it; empty if it is."""
    size: int
    """Prompts of the whole benchmark."""
    images: int
    """Of each prompt."""
    protocol: dict[str, str]
    """How images are judged, a line each, in words."""
    judge: str
    """The judge of published scores."""
    score: Callable[[Item, Sequence[Answer]], dict[str, Any]]
    summarize: Callable[[Sequence[Scored]], dict[str, Any]]
    """Its scores: by name a value, or a mapping of values by group, each a `Measured`."""


class Measured(NamedTuple):
    """A score with its interval, and of how much it is the mean."""

    value: float
    low: float
    high: float
    n: int

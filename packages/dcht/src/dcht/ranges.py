"""What a setting may be, said at its field and checked when the dataclass is made.

    batch_size: Annotated[int, Range(1, 65536)] = 128
    residual_std: Annotated[float | None, Range(0, above=True)] = None
    widths: Annotated[list[int], Length(1, 16), Range(1, 16384)]

    def __post_init__(self) -> None:
        check_ranges(self)

A setting read from a file, typed at a command line or given in Python meets the same check. Hydra
and `dcht.checkpoint` see the plain type. Neither torch nor hydra is imported here.
"""

from __future__ import annotations

import math
import numbers
import re
import reprlib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

from dcht.errors import UsageError


class Limit(Protocol):
    """A condition on a value; as text, what it expects."""

    def admits(self, value: Any) -> bool:
        """Whether the value meets it."""
        ...


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`; of a list, each entry."""

    low: float
    high: float = math.inf
    above: bool = False
    """`low` itself is not allowed."""
    below: bool = False
    """`high` itself is not allowed."""

    def admits(self, value: Any) -> bool:
        """Whether a number, or each in a list, is inside."""
        if isinstance(value, (list, tuple)):
            return all(self.admits(entry) for entry in value)
        # Compared, never converted: an integer may be too large for a float.
        return (
            (self.low < value if self.above else self.low <= value)
            and (value < self.high if self.below else value <= self.high)
            and value not in (math.inf, -math.inf)
        )

    def __str__(self) -> str:
        """`at least 1`, `1 to 64`, `above 0 and at most 1`."""
        if self.high == math.inf:
            return f"{'above' if self.above else 'at least'} {self.low:,}"
        if not self.above and not self.below:
            return f"{self.low:,} to {self.high:,}"
        low, high = "above" if self.above else "at least", "below" if self.below else "at most"
        return f"{low} {self.low:,} and {high} {self.high:,}"


@dataclass(frozen=True)
class Length:
    """Entries of a list, or characters of a text."""

    low: int
    high: int

    def admits(self, value: Any) -> bool:
        """Whether it is as long as that."""
        return self.low <= len(value) <= self.high

    def __str__(self) -> str:
        """`1 to 16 long`, `2 long`."""
        span = f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"
        return f"{span} long"


@dataclass(frozen=True)
class Pattern:
    """Texts that a regular expression matches as a whole."""

    expression: str
    meaning: str
    """What such a text is, for who gave another."""

    def admits(self, value: Any) -> bool:
        """Whether the text, or each in a list, matches."""
        if isinstance(value, (list, tuple)):
            return all(self.admits(entry) for entry in value)
        return re.fullmatch(self.expression, value) is not None

    def __str__(self) -> str:
        """The meaning."""
        return self.meaning


@dataclass(frozen=True)
class Mark:
    """Says of a field what it is for; its values are not limited by that."""

    meaning: str


WEIGHTLESS = Mark("no weight has its shape or its sense from it")
"""A setting that training or sampling reads: it may differ from that of a checkpoint whose weights
are taken."""
PATH = Pattern(r"[^\0]*[^\0\s][^\0]*", "a name")
"""Of a file, a folder or a checkpoint. An empty one, from a variable that is not set, would be the
current folder."""
WRITTEN_IF_SET = {"written_if_set": True}
"""Metadata of a field that is younger than some checkpoints: at its default it is not written to
`config.json`, so that their hashes stay as they are."""
SHARE = Range(0, 1, below=True)
SEED = Range(0, (1 << 63) - 1)
SHA256 = Pattern("[0-9a-f]{64}", "a SHA-256: 64 hexadecimal digits")


def check_ranges(config: Any) -> None:
    """Check every field of a dataclass that has limits; None is allowed where its type says so.

    Raises:
        UsageError: a value of another type or outside its limits, naming the field.
    """
    for name, kind, limits in _limited(type(config)):
        value = getattr(config, name)
        if value is None and type(None) in get_args(kind):
            continue
        expected = " and ".join(map(str, limits))
        if not _is_of(value, kind):
            raise UsageError(
                f"{name} is {shown(value)}, which is not {_words(kind)}; expected {expected}"
            )
        if not all(limit.admits(value) for limit in limits):
            raise UsageError(f"{name} is {shown(value)}; expected {expected}")


def require_whole(**values: Any) -> None:
    """Check arguments that count or number something.

    Raises:
        UsageError: one that is no integer, by its name.
    """
    for name, value in values.items():
        if not _is_of(value, int):
            raise UsageError(f"{name} is {shown(value)}, which is not {_words(int)}")


@cache
def marked(cls: type, mark: Mark) -> frozenset[str]:
    """The names of the fields of a dataclass, and of dataclasses in it, that have a mark."""
    found: set[str] = set()
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is Annotated and mark in get_args(hint):
            found.add(name)
        for kind in (hint, *get_args(hint)):
            if is_dataclass(kind) and isinstance(kind, type):
                found |= marked(kind, mark)
    return frozenset(found)


def shown(value: Any) -> str:
    """A value for a message: as Python writes it, shortened where it is long."""
    return repr(value) if isinstance(value, float) else reprlib.repr(value)


@cache
def _limited(cls: type) -> Sequence[tuple[str, Any, list[Limit]]]:
    """The fields with limits: name, plain type, limits."""
    found = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is Annotated:
            kind, *found_here = get_args(hint)
            limits = [limit for limit in found_here if not isinstance(limit, Mark)]
            if limits:
                found.append((name, kind, limits))
    return found


def _is_of(value: Any, kind: Any) -> bool:
    if get_origin(kind) in (typing.Union, types.UnionType):
        return any(_is_of(value, option) for option in get_args(kind))
    if get_origin(kind) is list:
        (entry,) = get_args(kind)
        return isinstance(value, (list, tuple)) and all(_is_of(each, entry) for each in value)
    if kind in (int, float):
        # numpy's numbers are numbers; True is none, though Python counts it among the integers.
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    if get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(map(_words, get_args(kind)))
    if get_origin(kind) is list:
        return f"a list of {_words(get_args(kind)[0])}"
    names: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        type(None): "nothing",
    }
    return names.get(kind) or kind.__name__

"""What a sweep runs over: sampling settings as words, `num_steps=4,8 order=confidence,random`.

Neither torch nor hydra is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

from dcar.sampling_config import SAMPLING_PRESETS, SamplingConfig
from dcht.errors import UsageError

RESIDUAL = "residual"
"""Not of the sampler: `off` leaves the residual head out, as Table 4's baseline does."""
SWITCH = {"on": True, "off": False}

Point = dict[str, Any]
"""One value of each axis, by name."""


class NamedSweep(NamedTuple):
    """A figure or table of the paper, with the scenes in place of MJHQ-30K."""

    axes: dict[str, list[Any]]
    cited: dict[float, str]
    """What others reach where on the first axis; none of it was run here."""


NAMED = {
    "fig6": NamedSweep(
        # not in paper: the figure's points are not in its text.
        {"num_steps": [2, 4, 6, 8, 10, 12, 16, 24, 32, 64]},
        {
            12: "DC-AR's best on MJHQ-30K (paper, Fig. 6): NOT RUN",
            64: "MAR-B's best on ImageNet (paper, Fig. 11): NOT RUN",
        },
    ),
    # The paper's baseline is a generator trained without the head; this is one checkpoint with and
    # without its residual.
    "table4": NamedSweep({RESIDUAL: [True, False]}, {}),
}


def parse_axes(words: Sequence[str]) -> dict[str, list[Any]]:
    """The axes that words name, each with its values in the order given.

    Args:
        words: `KEY=VALUE[,VALUE...]`; a key is a field of `SamplingConfig`, `preset` or `residual`.

    Raises:
        UsageError: a word of another form, a key that is not known or comes twice, or a value that
            is not of its kind.
    """
    kinds: dict[str, Any] = get_type_hints(SamplingConfig) | {"preset": str, RESIDUAL: bool}
    del kinds["stage_steps"]  # a list of its own: presets gtr-8 and gtr-6 have some
    axes: dict[str, list[Any]] = {}
    for word in words:
        key, equals, values = word.partition("=")
        if not equals or key in axes:
            problem = "comes twice" if equals else "is not KEY=VALUE[,VALUE...]"
            raise UsageError(f"{word!r} {problem}; for example num_steps=4,8,12")
        if key not in kinds:
            raise UsageError(f"setting {key!r} is not known; use {', '.join(kinds)}")
        axes[key] = [_parse(key, value, kinds[key]) for value in values.split(",")]
    return axes


def points(axes: dict[str, list[Any]]) -> list[Point]:
    """Every combination, the last axis fastest."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def single_values(words: Sequence[str]) -> Point:
    """As `parse_axes`, for one value each.

    Raises:
        UsageError: more than one value, or what `parse_axes` refuses.
    """
    axes = parse_axes(words)
    for key, values in axes.items():
        if len(values) > 1:
            raise UsageError(f"{key} has {len(values)} values here; give one (sweep takes several)")
    return {key: values[0] for key, values in axes.items()}


def label(value: Any) -> str:
    """A value as `parse_axes` reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _parse(key: str, word: str, kind: Any) -> Any:
    options = get_args(kind) or (kind,)
    if word == "none" and NoneType in options:
        return None
    kind = options[0]
    if kind is bool:
        if word not in SWITCH:
            raise UsageError(f"{key} {word!r} is not on or off")
        return SWITCH[word]
    if kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            name = "whole number" if kind is int else "number"
            raise UsageError(f"{key} {word!r} is not a {name}") from None
    choices = list(SAMPLING_PRESETS) if kind is str else [choice.value for choice in kind]
    if word not in choices:
        raise UsageError(f"{key} {word!r} is not known; use {', '.join(choices)}")
    return word

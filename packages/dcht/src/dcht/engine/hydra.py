"""What Hydra makes of a command line, in one line: which setting is none, and what is nearest.

Hydra advises to add what it does not know with a plus, and then adds it: a setting that nothing
reads. Here it is refused, wherever it came from.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from dcht.errors import UsageError

EXPERIMENT = "experiment"
"""The one group of files that is no setting."""


def explain(error: Exception, words: Sequence[str], schema: type) -> UsageError:
    """What Hydra or OmegaConf raised over a command line, as one line.

    Args:
        error: theirs.
        words: of the command line.
        schema: the dataclass of all settings.
    """
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

    if isinstance(error, MissingConfigException) and error.options:
        options = ", ".join(error.options)
        return UsageError(f"{error.missing_cfg_file} is not there; choose from {options}")
    if isinstance(error, OverrideParseException):
        return UsageError(f"{error.override!r} cannot be read as KEY=VALUE: {_first(error)}")
    for key in filter(None, map(_key, words)):
        if unknown := unknown_setting(schema, key):
            return unknown
    for cause in _chain(error):
        if isinstance(cause, ConfigKeyError) and dataclasses.is_dataclass(cause.object_type):
            nearest = _nearest(cause.object_type, str(cause.key))
            return UsageError(f"no setting is called {cause.full_key}; the nearest is {nearest}")
    if isinstance(error.__cause__, OmegaConfBaseException):
        return UsageError(f"{_first(error).rstrip('.')}: {_first(error.__cause__)}")
    if isinstance(error, OmegaConfBaseException):
        return UsageError(f"{error.full_key}: {_first(error)}" if error.full_key else _first(error))
    return UsageError(" ".join(str(error).split()))


def require_known(settings: Any) -> None:
    """Refuse attributes that a dataclass does not have: Hydra sets them where a plus asks for it.

    Raises:
        UsageError: the first of them, with the nearest setting.
    """
    for key in _extras(settings, ""):
        raise unknown_setting(type(settings), key) or UsageError(f"no setting is called {key}")


def unknown_setting(schema: type, key: str) -> UsageError | None:
    """What is wrong with a dotted key that a dataclass of settings does not have; else None."""
    kind: Any = schema
    for part in key.replace("[", ".").replace("]", "").split("."):
        if part.isdecimal():
            continue  # of a list, whose entries are of one kind
        if not dataclasses.is_dataclass(kind):
            break
        hints = typing.get_type_hints(kind)
        if part not in hints:
            return UsageError(f"no setting is called {key}; the nearest is {_nearest(schema, key)}")
        kind = _entry(hints[part])
    return None


def _key(word: str) -> str | None:
    """The setting that a word of the command line names, if it names one."""
    name, equals, _ = word.partition("=")
    name = name.lstrip("+~").partition("@")[0]
    known = not equals or "/" in name or name.startswith("-")
    return None if known or name.split(".")[0] in ("hydra", EXPERIMENT) else name


def _extras(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _extras(entry, f"{name}.{number}")
    elif dataclasses.is_dataclass(value):
        known = {field.name for field in dataclasses.fields(value)}
        for key, inner in vars(value).items():
            if key not in known:
                yield f"{name}.{key}".strip(".")
            else:
                yield from _extras(inner, f"{name}.{key}".strip("."))


def _entry(kind: Any) -> Any:
    """The dataclass that a type is about: of an optional one, or of a list's entries."""
    while typing.get_origin(kind) in (list, typing.Union, types.UnionType):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    return kind


def _nearest(schema: type, key: str) -> str:
    parent, _, last = key.rpartition(".")
    initials = "".join(word[:1] for word in last.split("_"))

    def likeness(name: str) -> float:
        place, _, other = name.rpartition(".")
        abbreviated = 0.9 if "_" in last and other == initials else 0.0
        alike = max(SequenceMatcher(None, last, other).ratio(), abbreviated)
        return alike + SequenceMatcher(None, parent, place).ratio() / 2

    return max([EXPERIMENT, *_names(schema, "")], key=likeness)


def _names(kind: Any, prefix: str) -> Iterator[str]:
    for name, hint in typing.get_type_hints(kind).items():
        inner = _entry(hint)
        yield prefix + name
        if dataclasses.is_dataclass(inner):
            yield from _names(inner, f"{prefix}{name}.")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

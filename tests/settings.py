"""The Hydra guide's tables, from the dataclasses: `python tests/settings.py --page` writes them.

A field's meaning is the text below it in the source; its type, bounds and default are its own.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from dcht.ranges import Mark

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "hydra.md"
MARKS = "<!-- {name} -->\n{table}\n<!-- end of {name} -->"


@cache
def meanings(kind: type) -> dict[str, str]:
    """The text below each field of a dataclass and of those that it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__[:-1]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found[field.target.id] = ""
                if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                    found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def shown_type(kind: Any) -> str:
    """A type as a reader types its values: choices by name, bounds beside numbers."""
    if typing.get_origin(kind) is typing.Annotated:
        inner, *limits = typing.get_args(kind)
        said = [
            text
            for limit in limits
            if not isinstance(limit, Mark) and "\\" not in (text := str(limit))
        ]
        return ", ".join([shown_type(inner), *said])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(shown_type(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return f"list of {shown_type(*typing.get_args(kind))}"
    if kind is type(None):
        return "null"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(member.name for member in kind)  # Hydra takes names
    return getattr(kind, "__name__", str(kind))


def shown_default(value: Any) -> str:
    """A default as YAML has it."""
    if value is dataclasses.MISSING:
        return "(must be given)"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown_default, value))}]"
    return str(value)


def rows(kind: type, value: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every setting below a dataclass: its key, type, default and meaning."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        given = (
            getattr(value, field.name, dataclasses.MISSING)
            if value is not None
            else _default(field)
        )
        inner = next(
            (part for part in (hints[field.name], *typing.get_args(hints[field.name]))
             if isinstance(part, type) and dataclasses.is_dataclass(part)), None,
        )  # fmt: skip
        is_list = typing.get_origin(hints[field.name]) is list
        if inner is not None and not is_list and given is not None:
            nested = None if given is dataclasses.MISSING else given
            yield from rows(typing.cast(type, inner), nested, f"{prefix}{field.name}.")
        else:
            meaning = meanings(kind)[field.name] or _of_choices(hints[field.name])
            default = shown_default(given)
            if given is dataclasses.MISSING and prefix.startswith(("tokenizer.", "model.")):
                default = "(the preset's)"
            yield f"{prefix}{field.name}", shown_type(hints[field.name]), default, meaning


def _of_choices(hint: Any) -> str:
    """What an enum says of itself, for fields that add nothing to it."""
    for part in (hint, *typing.get_args(hint)):
        if isinstance(part, type) and issubclass(part, Enum):
            return " ".join((part.__doc__ or "").split())
    return ""


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return dataclasses.MISSING


def table(kind: type) -> str:
    """The settings of a dataclass as a table."""
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for key, shown, default, meaning in rows(kind, None):
        cells = (f"`{key}`", shown, f"`{default}`", re.sub(r"[<>]", _escaped, meaning))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _escaped(match: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;"}[match[0]]


def groups() -> str:
    """Every group, with what can be chosen in it."""
    import dcar.config
    import dcht.config

    sources = {
        package: ROOT / f"packages/{package}/src/{package}/conf" for package in ("dcht", "dcar")
    }
    chosen = {
        "tokenizer": ("both", sorted(dcht.config.PRESETS)),
        "light": ("dcht-train", sorted(dcht.config.LIGHT_PRESETS)),
        "model": ("dcar-train", sorted(dcar.config.PRESETS)),
        "data": ("dcar-train", sorted(path.stem for path in (sources["dcar"] / "data").iterdir())),
    }
    lines = ["| group | of | choices |", "|---|---|---|"]
    for package, folder in sources.items():
        found = sorted(path.stem for path in (folder / "experiment").iterdir())
        chosen[f"experiment ({package})"] = (f"{package}-train", found)
    for name, (of, choices) in chosen.items():
        lines.append(f"| `{name.split(' ')[0]}` | {of} | {', '.join(f'`{c}`' for c in choices)} |")
    return "\n".join(lines)


def tables() -> dict[str, str]:
    """The generated parts of the page, by name."""
    import dcar.train_config
    import dcht.train_config

    return {
        "groups": groups(),
        "dcht-train": table(dcht.train_config.TrainConfig),
        "dcar-train": table(dcar.train_config.TrainConfig),
    }


def main() -> None:
    text = PAGE.read_text()
    for name, made in tables().items():
        pattern = MARKS.format(name=re.escape(name), table=".*?")
        text = re.sub(
            pattern, lambda _, n=name, m=made: MARKS.format(name=n, table=m), text, flags=re.S
        )
    if "--page" in sys.argv:
        PAGE.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()

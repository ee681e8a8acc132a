"""What every evaluation's folder has: the settings it was begun with, and `results.json`."""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dcht.data.entries import Entry, digest_all
from dcht.errors import UsageError, printable
from dcht.files import locked, read_json, remove_partials, require_unused, write_atomic

if TYPE_CHECKING:
    import torch

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

SETTINGS, RESULTS, CONTENTS = "settings.json", "results.json", ".contents.json"
SHA256 = 32
"""Bytes of one."""
CONTENT = "content_sha256"
"""The setting that stands for what all images hold."""


def prepare(
    out: Path,
    settings: dict[str, Any],
    *,
    files: Iterable[str],
    force: bool,
    contents: Mapping[str, str] | None = None,
) -> None:
    """Make `out` ready for an evaluation with these settings, or refuse.

    Args:
        out: the folder.
        settings: JSON types; all that the results depend on.
        files: what the evaluation writes there, besides its results; removed with `force`, in
            this order: what counts on others first.
        force: begin anew, whatever `out` holds.
        contents: SHA-256 of the images that are read, by name; `settings` has the hash of them
            all, this says which one has changed.

    Raises:
        UsageError: it was begun with others, or holds something else.
    """
    record = out / SETTINGS
    if force:
        for name in (RESULTS, *files):
            (out / name).unlink(missing_ok=True)
    elif not record.exists():
        require_unused(out, force=False)
    elif changed := differing(settings, known := read_json(record)):
        if changed == [CONTENT] and (name := _changed(out / CONTENTS, contents or {})):
            raise UsageError(
                f"{name} is no longer what {out} was begun with; use --force or another --out"
            )
        name, advice = changed[0], "use --force or another --out"
        if name not in known:
            raise UsageError(f"{out} was begun with no record of {name}; {advice}")
        raise UsageError(
            f"{out} was begun with {name} {known[name]}, not {settings.get(name)}; {advice}"
        )
    out.mkdir(parents=True, exist_ok=True)
    remove_partials(out, below=True)
    write_atomic(record, json.dumps(settings, indent=1).encode() + b"\n")
    if contents is not None and (force or not (out / CONTENTS).exists()):
        write_atomic(out / CONTENTS, json.dumps(contents).encode() + b"\n")


def differing(settings: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """The settings that have other values in `others`, or that only one of the two has."""
    missing = object()
    keys = dict.fromkeys([*settings, *others])
    return [key for key in keys if settings.get(key, missing) != others.get(key, missing)]


def _changed(path: Path, contents: Mapping[str, str]) -> str | None:
    """The first image that is not what was listed in a file."""
    if not path.exists():
        return None
    before = read_json(path)
    return next((name for name, found in contents.items() if before.get(name) != found), None)


def hash_contents(entries: Sequence[Entry], prefix: str = "") -> dict[str, str]:
    """SHA-256 by name of what the files of some images hold, or of why they cannot be read."""
    names = (prefix + entry.name for entry in entries)
    digests = (found[:SHA256].hex() for found in digest_all(entries, beside=False))
    return dict(zip(names, digests, strict=True))


def hash_all(contents: Mapping[str, str]) -> str:
    """One hash of all names and contents, in their order."""
    return hashlib.sha256(json.dumps(list(contents.items())).encode()).hexdigest()


def alone(evaluate: Callable[P, R]) -> Callable[P, R]:
    """An evaluation that holds its folder, the argument `out`, as long as it works.

    Raises:
        UsageError: another process holds it.
    """
    signature = inspect.signature(evaluate)

    @wraps(evaluate)
    def holding(*args: P.args, **kwargs: P.kwargs) -> R:
        with locked(signature.bind(*args, **kwargs).arguments["out"]):
            return evaluate(*args, **kwargs)

    return holding


def finished(out: Path) -> dict[str, Any] | None:
    """The results in `out`, or None where the evaluation has not come to its end.

    Raises:
        UsageError: they are damaged.
    """
    path = out / RESULTS
    return read_json(path) if path.exists() else None


def shown(out: Path, table: Callable[[dict[str, Any]], T], results: dict[str, Any]) -> T:
    """What `table` makes of results, which may have been read from `out`.

    Raises:
        UsageError: something is not there, or not what an evaluation writes.
    """
    try:
        return table(results)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{out / RESULTS} is not what this evaluation writes ({type(error).__name__}: "
            f"{error}); where it is your own, remove it, and the same command makes it again"
        ) from None


def write_results(out: Path, results: dict[str, Any]) -> None:
    """Write `results.json`, which says that the evaluation is done.

    Raises:
        UsageError: a value is not finite: a number of this kind means nothing.
    """
    try:
        text = json.dumps(results, indent=1, allow_nan=False)
    except ValueError:
        raise UsageError(f"{out}: a result is not finite, so none is written") from None
    write_atomic(out / RESULTS, text.encode() + b"\n")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of installed packages."""
    return {name: version(name) for name in packages}


def this_run(start: float, device: torch.device) -> dict[str, Any]:
    """When and where; all that may differ between equal runs. `start` is `perf_counter`'s."""
    import torch

    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1),
        "machine": platform.platform(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def text_table(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells, each column as wide as its widest cell, to the right; safe to print."""
    lines = [[printable(cell) for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )

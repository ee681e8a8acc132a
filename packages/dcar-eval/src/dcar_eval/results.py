"""What every evaluation's folder has: the settings it was begun with, and `results.json`."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dcht.errors import UsageError
from dcht.files import read_json, remove_partials, require_unused, write_atomic

SETTINGS, RESULTS = "settings.json", "results.json"


def prepare(out: Path, settings: dict[str, Any], *, files: Iterable[str], force: bool) -> None:
    """Make `out` ready for an evaluation with these settings, or refuse.

    Args:
        out: the folder.
        settings: JSON types; all that the results depend on.
        files: what the evaluation writes there, besides its results; removed with `force`.
        force: begin anew, whatever `out` holds.

    Raises:
        UsageError: it was begun with others, or holds something else.
    """
    record = out / SETTINGS
    known = read_json(record) if record.exists() else None
    if known != settings and not force:
        if known is not None:
            key = next(key for key in settings if known.get(key) != settings[key])
            raise UsageError(
                f"{out} was begun with {key} {known.get(key)}, not {settings[key]}; "
                "use --force or another --out"
            )
        require_unused(out, force=False)
    if force:
        for name in (RESULTS, *files):
            (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    remove_partials(out)
    write_atomic(record, json.dumps(settings, indent=1).encode() + b"\n")


def finished(out: Path) -> dict[str, Any] | None:
    """The results in `out`, or None where the evaluation has not come to its end."""
    path = out / RESULTS
    return read_json(path) if path.exists() else None


def write_results(out: Path, results: dict[str, Any]) -> None:
    """Write `results.json`, which says that the evaluation is done."""
    write_atomic(out / RESULTS, json.dumps(results, indent=1).encode() + b"\n")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of installed packages."""
    return {name: version(name) for name in packages}


def this_run(start: float, device: torch.device) -> dict[str, Any]:
    """When and where; all that may differ between equal runs. `start` is `perf_counter`'s."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1),
        "machine": platform.platform(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def text_table(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells, each column as wide as its widest cell, to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )

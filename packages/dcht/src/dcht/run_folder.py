"""A run's folder: what it resumes from, the settings that belong to it, and a disk that is full."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dcht.errors import UsageError
from dcht.files import write_atomic

RESUME_PATTERN = "resume-*.pt"
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
"""The system's reasons for which a write fails and the program is not to blame."""


def save_resume(folder: str | Path, step: int, state: dict[str, Any], *, keep: int = 2) -> Path:
    """Write `resume-STEP.pt` whole or not at all, then delete all but the `keep` newest.

    `state` may hold tensors, numbers, strings, lists, tuples and dicts: what `load_resume` reads.

    Raises:
        OSError: it could not be written (a full disk, say); the files before it are untouched.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"resume-{step:09d}.pt"
    partial = folder / f".{path.name}.partial"
    try:
        with partial.open("wb") as file:
            torch.save({"step": step, "state": state}, file)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        # torch hides the system's reason behind a complaint of its own about positions.
        reason = error if isinstance(error, OSError) else error.__context__
        if isinstance(reason, OSError):
            raise OSError(reason.errno, reason.strerror, str(path)) from None
        raise
    os.replace(partial, path)
    for old in sorted(folder.glob(RESUME_PATTERN))[:-keep]:
        old.unlink()
    return path


def load_resume(folder: str | Path) -> tuple[int, dict[str, Any]] | None:
    """The newest (step, state) that `save_resume` wrote, on the CPU; None where there is none."""
    files = sorted(Path(folder).glob(RESUME_PATTERN))
    if not files:
        return None
    saved = torch.load(files[-1], map_location="cpu", weights_only=True)
    return saved["step"], saved["state"]


@contextmanager
def room_to_write(folder: str | Path) -> Iterator[None]:
    """Where a run writes: a full disk, or one that cannot be written to, ends it in one line.

    Raises:
        UsageError: the system's reason, and what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise UsageError(
            f"{error.filename or folder} could not be written: {error.strerror}; the last resume "
            "file is whole: make room, and the same command continues"
        ) from None


def check_settings(
    folder: str | Path,
    settings: dict[str, Any],
    *,
    free: Collection[str],
    resuming: bool,
    write: bool = True,
) -> None:
    """Write a run's settings to `config.json`; when resuming, compare with what it began with.

    Args:
        folder: the run's folder.
        settings: nested dictionaries of JSON types.
        free: names, at any depth, that may change: nothing a finished step depended on.
        resuming: whether the folder holds a run to continue.
        write: whether this rank is the one that writes.

    Raises:
        UsageError: the run began with other settings; the message names them.
    """
    path = Path(folder) / "config.json"
    if resuming and (odd := sorted(differences(json.loads(path.read_text()), settings, free))):
        raise UsageError(
            f"{folder} holds a run that began with other settings ({', '.join(odd)}); "
            "choose another out="
        )
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(settings, indent=1).encode() + b"\n")


def differences(before: Any, now: Any, free: Collection[str] = (), name: str = "") -> set[str]:
    """The dotted names under which two nested settings differ, but for those in `free`."""
    if isinstance(before, dict) and isinstance(now, dict):
        # A setting that only one side has came or went with a version; it has its default.
        inner = (before.keys() & now.keys()) - set(free)
        found = (
            differences(before[key], now[key], free, f"{name}.{key}".strip(".")) for key in inner
        )
        return set().union(*found)
    return set() if before == now else {name}

"""A run's folder: who writes it, what it resumes from, its settings, a disk that is full."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dcht.engine.distributed import World
from dcht.errors import CheckpointError, UsageError
from dcht.files import PARTIAL, locked, open_regular, read_json, remove_partials, write_atomic

SETTINGS = "config.json"
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
    for old in _saves(folder)[:-keep]:
        old.unlink()
    return path


def _saves(folder: Path) -> list[Path]:
    """What `save_resume` wrote, from the oldest to the newest; what else lies there is none."""
    found = (path for path in folder.glob(RESUME_PATTERN) if path.stem[7:].isdecimal())
    return sorted(found, key=lambda path: int(path.stem[7:]))


def newest_resume(folder: str | Path) -> Path | None:
    """The newest file that `save_resume` wrote; None where there is none."""
    saves = _saves(Path(folder))
    return saves[-1] if saves else None


def load_resume(folder: str | Path) -> tuple[int, dict[str, Any]] | None:
    """The newest (step, state) that `save_resume` wrote, on the CPU; None where there is none.

    Raises:
        CheckpointError: the file is damaged, or is no such file.
    """
    path = newest_resume(folder)
    return None if path is None else read_resume(path)


def read_resume(path: Path) -> tuple[int, dict[str, Any]]:
    """The (step, state) of a file that `save_resume` wrote, on the CPU.

    Raises:
        CheckpointError: the file is damaged, or is no such file.
    """
    with fitting_state(path), open_regular(path) as file:
        _require_stored(file)
        saved = torch.load(file, map_location="cpu", weights_only=True)
        step, state = saved["step"], saved["state"]
        if type(step) is not int or step < 0 or not isinstance(state, dict):
            raise ValueError(f"its step is {step!r}")
    return step, state


def _require_stored(file: BinaryIO) -> None:
    """Refuse what torch would unpack: a small file could fill the memory. It packs nothing."""
    with zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed")
    file.seek(0)


@contextmanager
def fitting_state(file: Path) -> Iterator[None]:
    """Where a resume file is read and its state taken over: one that does not fit is damaged.

    Raises:
        CheckpointError: names the file and what to do.
    """
    try:
        yield
    except (UsageError, CheckpointError):
        raise
    except Exception as error:
        # Whatever bytes of no meaning lead torch to. Its message may be a page, or advise to
        # unpickle.
        raise CheckpointError(
            f"{file} is damaged ({type(error).__name__}) and cannot be continued from; delete it "
            "to continue from the one before"
        ) from None


@contextmanager
def sole_run(folder: str | Path, ranks: World) -> Iterator[None]:
    """Be the only run that writes `folder`; what a killed one left unfinished is removed.

    Rank 0 locks it for all ranks of a run.

    Raises:
        UsageError: another run holds it, on every rank.
    """
    folder = Path(folder)

    def lock() -> None:
        held.enter_context(locked(folder))
        remove_partials(folder, below=True)
        for unfinished in folder.glob(f".*{PARTIAL}"):
            shutil.rmtree(unfinished)

    with ExitStack() as held:
        ranks.on_main(lock)
        yield


@contextmanager
def published(folder: Path) -> Iterator[Path]:
    """A folder to write into, whose files then take their places in `folder`, for others to read.

    What is unfinished never lies in `folder` itself: a run that is killed leaves there what it
    published before.
    """
    staging = folder.with_name(f".{folder.name}{PARTIAL}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        files = [file for file in staging.rglob("*") if file.is_file()]
        # The weights last, as in any checkpoint.
        for file in sorted(files, key=lambda file: file.suffix == ".safetensors"):
            place = folder / file.relative_to(staging)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
    """When resuming, compare a run's settings with those that it began with; then write them.

    Args:
        folder: the run's folder.
        settings: nested dictionaries of JSON types.
        free: names, at any depth, that may change: nothing a finished step depended on.
        resuming: whether the folder holds a run to continue.
        write: whether to write them now.

    Raises:
        UsageError: the run began with other settings, which the message names, or what it began
            with cannot be read.
    """
    path = Path(folder) / SETTINGS
    if resuming:
        try:
            before = read_json(path)
        except FileNotFoundError:
            raise UsageError(
                f"{folder} holds a run without its {SETTINGS}, so that nobody knows how it began; "
                "choose another out="
            ) from None
        if different := sorted(differences(before, settings, free)):
            raise UsageError(
                f"{folder} holds a run that began with other settings ({', '.join(different)}); "
                "choose another out="
            )
    if write:
        write_settings(folder, settings)


def write_settings(folder: str | Path, settings: dict[str, Any]) -> None:
    """Write a run's settings to its `config.json`."""
    path = Path(folder) / SETTINGS
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
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = zip(before, now, strict=True)
        return set().union(*(differences(*pair, free, name) for pair in pairs))
    return set() if before == now else {name}

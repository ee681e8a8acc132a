"""What a run continues from: folders `resume/step-NNNNNNNNN/`, each whole or not there at all.

Tensors are written by torch.distributed.checkpoint, every rank its own shards, so that they can be
read again by any number of ranks. They are safetensors and the rest is JSON: unlike DCP's own
format, nothing here is a pickle.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save

from dcht.engine.distributed import World
from dcht.errors import CheckpointError
from dcht.files import read_json

FACTS = "state.json"
FILE_BYTES = 1 << 30
"""Tensors are gathered into files of this size: one file at a time is built in memory."""


class ResumeFolder:
    """The saves of one run; all ranks call each method together."""

    def __init__(self, folder: str | Path, world: World, *, keep: int) -> None:
        """Saves live in `folder`, which need not exist; the `keep` newest of them stay."""
        self.folder = Path(folder)
        self.world = world
        self.keep = keep
        # One process alone is meant: DCP takes it for a mistake.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable")
        # Its own, with torch 2.9.
        warnings.filterwarnings("ignore", message="TypedStorage is deprecated")
        # Saving in the background must not mix its messages with those of training.
        self._group: dist.ProcessGroup | None = None
        if world.size > 1:
            self._group = dist.new_group(backend="gloo")  # type: ignore[assignment]
        self._pending: tuple[Path, Future[Any]] | None = None

    def __enter__(self) -> ResumeFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let a save in the background come to its end, also where the run came to a bad one."""
        try:
            self.finish()
        except OSError:
            if error is None:
                raise

    def newest(self) -> Path | None:
        """The newest save; what an interrupted one left behind is removed."""
        if self.world.main:
            for partial in self.folder.glob(".step-*.partial"):
                shutil.rmtree(partial)
        found = self._saves()
        return self.world.broadcast(found[-1] if found else None)

    def _saves(self) -> list[Path]:
        """The saves, from the oldest to the newest; what else lies beside them is none."""
        found = (path for path in self.folder.glob("step-*") if path.name[5:].isdecimal())
        return sorted(found, key=lambda path: int(path.name[5:]))

    def clear(self) -> None:
        """Remove all saves."""
        if self.world.main:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.world.barrier()

    def save(
        self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, wait: bool
    ) -> None:
        """Save a step.

        Without `wait` tensors are copied and written while training goes on; the save is there
        once `poll`, `finish` or the next `save` has seen its end.

        Raises:
            OSError: this save or the one before it could not be written (a full disk, say). Those
                before are untouched.
        """
        self.finish()
        folder = self.folder / _name(step)
        partial = _partial(folder)
        self._begin(partial, {"step": step, **facts})
        writer = HuggingFaceStorageWriter(str(partial), _files(tensors), save_distributed=True)
        write = save if wait else async_save
        with self._cleaning(partial):
            result = write(
                dict(tensors),
                storage_writer=writer,
                process_group=self._group,
                no_dist=self._group is None,
            )
        if isinstance(result, Future):
            self._pending = folder, result
        else:
            self._commit(folder)

    def poll(self) -> None:
        """Take note of a save in the background that has come to its end.

        Raises:
            OSError: it could not be written.
        """
        if self._pending is None:
            return
        done = torch.tensor(float(self._pending[1].done()))
        if self.world.sum(done) == self.world.size:
            self.finish()

    def finish(self) -> None:
        """Wait for a save in the background.

        Raises:
            OSError: it could not be written.
        """
        if self._pending is None:
            return
        (folder, future), self._pending = self._pending, None
        with self._cleaning(_partial(folder)):
            future.result()
        self._commit(folder)

    def _begin(self, partial: Path, facts: Mapping[str, Any]) -> None:
        error = None
        if self.world.main:
            try:
                partial.mkdir(parents=True, exist_ok=True)
                (partial / FACTS).write_text(json.dumps(facts) + "\n")
            except OSError as problem:
                error = problem
        if error := self.world.broadcast(error):
            raise error

    def _commit(self, folder: Path) -> None:
        """Every rank has written its shards: give the save its name, and drop the oldest."""
        if self.world.main:
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(_partial(folder), folder)
            for old in self._saves()[: -self.keep]:
                shutil.rmtree(old)

    @contextmanager
    def _cleaning(self, partial: Path) -> Iterator[None]:
        """Where writing fails, drop what was written, and raise the first reason as itself."""
        try:
            yield
        except (CheckpointException, OSError) as error:
            if self.world.main:
                shutil.rmtree(partial, ignore_errors=True)
            reason = _first(error) if isinstance(error, CheckpointException) else error
            if isinstance(reason, OSError):
                raise OSError(reason.errno, reason.strerror, str(partial)) from None
            raise reason from None


def _name(step: int) -> str:
    return f"step-{step:09d}"


def _partial(folder: Path) -> Path:
    """Where a save is written before it has its name."""
    return folder.with_name(f".{folder.name}.partial")


def read_facts(folder: Path) -> dict[str, Any]:
    """The `facts` of a save, with its `step`.

    Raises:
        CheckpointError: they are damaged.
    """
    try:
        facts = read_json(folder / FACTS)
        if folder.name != _name(facts["step"]):
            raise ValueError(f"{FACTS} is that of step {facts['step']}")
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(_damaged(folder, error)) from None
    return facts


def read_tensors_into(folder: Path, tensors: Mapping[str, Tensor], world: World) -> None:
    """Give `tensors`, whole or in shards, the values of a save; all ranks call this together.

    Raises:
        CheckpointError: a tensor is missing or of another shape, or a file is damaged.
    """
    try:
        # DCP reads into the tensors themselves; which rank wrote what does not matter.
        with _silent_log():
            load(
                dict(tensors),
                storage_reader=HuggingFaceStorageReader(str(folder)),
                no_dist=world.size == 1,
            )
    except CheckpointException as error:
        raise CheckpointError(_damaged(folder, _first(error))) from None
    except Exception as error:
        # DCP checks little of what it reads: a header of no meaning fails anywhere.
        raise CheckpointError(_damaged(folder, error)) from None


@contextmanager
def _silent_log() -> Iterator[None]:
    """DCP logs the traceback of what it raises, to the root logger; a damaged save is one line."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _damaged(folder: Path, error: BaseException) -> str:
    reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    return f"{folder} is damaged: {reason}; delete it to continue from the save before"


def _files(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of the file, from 1, that each tensor goes to."""
    numbers, number, size = {}, 1, 0
    for name, tensor in tensors.items():
        if size and size + tensor.nbytes > FILE_BYTES:
            number, size = number + 1, 0
        numbers[name] = number
        size += tensor.nbytes
    return numbers


def _first(error: CheckpointException) -> BaseException:
    return next(iter(error.failures.values()))[0]

"""Shards of one encoding spread over processes of this machine.

A worker gets the path of its work, never the work itself: what is too much for a pipe waits
for its reader, and a worker that dies while it starts reads nothing. Each has a pipe of its own
back, whose end is the worker's end.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from dcht.errors import CheckpointError, UsageError
from dcht.latents.encode_job import Job
from dcht.latents.encode_shards import encode_shards
from dcht.tokenizer import Tokenizer


def run_workers(
    job: Job,
    tokenizer: Tokenizer,
    shards: Sequence[int],
    *,
    workers: int,
    progress: Callable[[int], Any],
) -> None:
    """Encode some shards in `workers` processes, each with a tokenizer of its own.

    On CUDA worker k uses GPU k, round and round.

    Raises:
        UsageError: what a worker raised, or that one was killed.
    """
    context = multiprocessing.get_context("spawn")
    number = min(workers, len(shards))
    processes, pipes = [], []
    with tempfile.TemporaryDirectory(prefix="dcht-") as folder:
        work = Path(folder) / "work"
        # Pickled here: torch would put the weights into shared memory, of which containers have
        # little. Nobody else can write into the folder.
        with work.open("xb") as file:
            pickle.dump((job, copy.deepcopy(tokenizer).cpu(), list(shards)), file)
        try:
            with _interrupts_held_back():
                for k in range(number):
                    ours, theirs = context.Pipe(duplex=False)
                    words = (str(work), k, number, _device(job, k), theirs)
                    process = context.Process(target=_work, args=words, daemon=True)
                    process.start()
                    theirs.close()
                    processes.append(process)
                    pipes.append(ours)
            _listen(pipes, progress)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that no Ctrl-C of the terminal reaches: they are ended by their parent."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(pipes: list[Connection], progress: Callable[[int], Any]) -> None:
    """Pass on what workers report until all have ended.

    Raises:
        UsageError: what one raised, or that one ended before its work did.
    """
    running: list[Any] = list(pipes)
    while running:
        for pipe in wait(running):
            try:
                message = pipe.recv()  # type: ignore[union-attr]
            except EOFError:
                raise UsageError(
                    "a worker stopped before its work was done (a system short of memory ends "
                    "processes so); repeat the command, with fewer --workers"
                ) from None
            if isinstance(message, Exception):
                raise message
            if message is None:
                running.remove(pipe)
            else:
                progress(message)


def _device(job: Job, worker: int) -> str:
    if job.plan.device != "cuda":
        return job.plan.device
    return f"cuda:{worker % torch.cuda.device_count()}"


def _work(work: str, worker: int, of: int, device: str, pipe: Connection) -> None:
    """Encode every `of`-th shard of some work; report inputs, an error or, at the end, None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def report(message: int | Exception | None) -> None:
        try:
            pipe.send(message)
        except OSError:
            os._exit(1)  # the parent is gone, and whoever killed it may have started anew

    try:
        job, tokenizer, shards = pickle.loads(Path(work).read_bytes())
        encode_shards(job, tokenizer.to(device), shards[worker::of], report)
        report(None)
    except (UsageError, CheckpointError) as error:
        report(error)

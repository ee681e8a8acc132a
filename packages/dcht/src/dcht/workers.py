"""Shards of one encoding spread over processes of this machine."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import queue
import signal
from collections.abc import Callable, Sequence
from multiprocessing.queues import Queue
from typing import Any

import torch

from dcht.encode import encode_shards
from dcht.encode_job import Job
from dcht.errors import CheckpointError, UsageError
from dcht.tokenizer import Tokenizer

POLL = 0.5
"""Seconds after which a parent without news looks whether its workers are alive."""


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
    messages = context.Queue()
    # Pickled here: torch would put the weights into shared memory, of which containers have little.
    weights = pickle.dumps(copy.deepcopy(tokenizer).cpu())
    processes = [
        context.Process(
            target=_work,
            args=(job, weights, list(shards[k::workers]), _device(job, k), messages),
            daemon=True,
        )
        for k in range(min(workers, len(shards)))
    ]
    for process in processes:
        process.start()
    try:
        while True:
            alive = any(process.is_alive() for process in processes)
            try:
                message = messages.get(timeout=POLL)
            except queue.Empty:
                if not alive:
                    break
                continue
            if isinstance(message, Exception):
                raise message
            progress(message)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    if failed := [process.exitcode for process in processes if process.exitcode]:
        raise UsageError(
            f"{len(failed)} of {len(processes)} workers stopped (exit code {failed[0]}; -9 is what "
            "a system short of memory does); repeat the command, with fewer --workers"
        )


def _device(job: Job, worker: int) -> str:
    if job.plan.device != "cuda":
        return job.plan.device
    return f"cuda:{worker % torch.cuda.device_count()}"


def _work(
    job: Job, weights: bytes, shards: list[int], device: str, messages: Queue[int | Exception]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends this
    parent = multiprocessing.parent_process()

    def progress(inputs: int) -> None:
        if parent is None or not parent.is_alive():
            os._exit(1)  # whoever killed it may have started anew
        messages.put(inputs)

    try:
        encode_shards(job, pickle.loads(weights).to(device), shards, progress)
    except (UsageError, CheckpointError) as error:
        messages.put(error)

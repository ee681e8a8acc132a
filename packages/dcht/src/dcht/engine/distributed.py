"""Several processes as one run: which of them this is, and what it shares with the others.

Without a launcher a process is a world of one, where nothing is sent. Under `torchrun` (RANK,
WORLD_SIZE, LOCAL_RANK) or SLURM's `srun` (SLURM_*) the processes find each other through gloo on a
CPU and nccl on CUDA. What every rank samples and reads is for the training loops to say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dcht.device import pick_device
from dcht.errors import UsageError

T = TypeVar("T")
TIMEOUT = timedelta(hours=1)
"""How long a rank waits for the others: rank 0 validates and writes while they do."""
FIRST_PORT, NUM_PORTS = 20_000, 10_000
"""Where a SLURM step's rendezvous listens: a port that its job and step numbers choose."""


class Place(NamedTuple):
    """A process among those of its run (rank of size) and of its machine (local_rank)."""

    rank: int
    size: int
    local_rank: int


@dataclass(frozen=True)
class World:
    """This process (rank 0 to size - 1) and its device; all ranks call each method together."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is rank 0, which alone logs and writes."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor summed over ranks, without gradient; the tensor itself in a world of one."""
        if self.size == 1:
            return tensor
        total = tensor.detach().to(self.device, copy=True).contiguous()
        dist.all_reduce(total)
        return total.to(tensor.device)

    def gather(self, tensor: Tensor) -> Tensor:
        """The ranks' tensors (n, ...), of one shape, as (size n, ...) in the order of ranks."""
        if self.size == 1:
            return tensor
        ours = tensor.detach().to(self.device).contiguous()
        parts = [torch.empty_like(ours) for _ in range(self.size)]
        dist.all_gather(parts, ours)
        return torch.cat(parts).to(tensor.device)

    def broadcast(self, value: Any) -> Any:
        """Rank 0's object, which must pickle, on all ranks."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def on_main(self, work: Callable[[], T]) -> T:
        """What rank 0's `work` returns, on all ranks; what it raises, all of them raise."""
        if self.size == 1:
            return work()
        result = error = None
        if self.main:
            try:
                result = work()
            except Exception as problem:
                error = problem
        result, error = self.broadcast((result, error))
        if error is not None:
            raise error
        return result

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        if self.size > 1:
            self.sum(torch.zeros((), device=self.device)).item()

    def align(self, module: nn.Module) -> None:
        """Give every rank rank 0's parameters and buffers."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                shared = tensor.contiguous()
                dist.broadcast(shared, src=0)
                tensor.copy_(shared)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over ranks, in one message; the same bits everywhere."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients])) / self.size
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
            gradient.copy_(mean.reshape(gradient.shape))


@contextmanager
def world(device: str) -> Iterator[World]:
    """The world this process belongs to, joined on entry and left on exit.

    A process under a launcher does this once: ranks that came back to the same port could miss each
    other.

    Args:
        device: `auto`, `cpu`, `cuda` or `mps`; a rank takes the GPU of its number on the machine.

    Raises:
        UsageError: a device that cannot be had, or that several ranks cannot have.
    """
    place, chosen = find_place(os.environ), pick_device(device)
    if place.size == 1:
        yield World(0, 1, chosen)
        return
    if chosen.type not in ("cpu", "cuda") or chosen.index is not None:
        raise UsageError(
            f"device {str(chosen)!r} cannot be that of {place.size} ranks; use cpu, or cuda "
            "without a number: every rank takes a GPU of its own"
        )
    if chosen.type == "cuda":
        # A launcher may show each rank only its own GPU.
        chosen = torch.device("cuda", place.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(chosen)
    os.environ.setdefault("MASTER_ADDR", _first_host(os.environ.get("SLURM_STEP_NODELIST", "")))
    os.environ.setdefault("MASTER_PORT", str(_port(os.environ)))
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        rank=place.rank,
        world_size=place.size,
        timeout=TIMEOUT,
        device_id=chosen if chosen.type == "cuda" else None,
    )
    try:
        yield World(place.rank, place.size, chosen)
    finally:
        dist.destroy_process_group()


def find_place(environment: Mapping[str, str]) -> Place:
    """This process's place, by what a launcher left in the environment.

    SLURM's variables count within a step alone (`srun`): in a batch script itself, SLURM_NTASKS
    says how many tasks there could be, and nobody else is running.
    """
    for names in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ):
        if all(name in environment for name in names):
            return Place(*(int(environment[name]) for name in names))
    return Place(rank=0, size=1, local_rank=0)


def _first_host(nodes: str) -> str:
    """The first of a SLURM list of hosts: `n[03-05,9],m1` is n03; an empty list is this machine."""
    found = re.match(r"([^,\[]+)(?:\[([^],-]+))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else "127.0.0.1"


def _port(environment: Mapping[str, str]) -> int:
    numbers = (int(environment.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return FIRST_PORT + sum(numbers) % NUM_PORTS

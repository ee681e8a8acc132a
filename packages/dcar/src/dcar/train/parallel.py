"""A model on several ranks: a copy on each (DDP), or one in shards (FSDP2).

The losses of `dcar.model` are shares of the global batch's: their sum over ranks is what is
trained, and gradients come out as its gradient whatever the number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, assert_never

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from dcar.train_config import Parallel
from dcht.engine.distributed import World

if TYPE_CHECKING:
    from dcar.train.learner import Learner


def distribute(learner: Learner, world: World, parallel: Parallel) -> nn.Module:
    """What a step calls in place of the learner, whose weights all ranks hold alike.

    With FSDP2 it is the learner itself, whose parameters become shards (DTensors). Gradients are
    averaged over ranks: multiply the loss by `world.size` for those of the sum.
    """
    if not dist.is_initialized():  # no launcher: this process alone
        return learner
    match parallel:
        case Parallel.ddp:
            return DistributedDataParallel(learner, gradient_as_bucket_view=True)
        case Parallel.fsdp2:
            _shard(learner, world)
            return learner
        case _:
            assert_never(parallel)


def _shard(learner: Learner, world: World) -> None:
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in learner.model.generator.blocks:
        # The text's keys and values are made for all blocks before the first of them runs.
        fully_shard(block.cross_attention.kv, mesh=mesh)  # type: ignore[union-attr, arg-type]
        fully_shard(block, mesh=mesh)
    fully_shard(learner, mesh=mesh)


@contextmanager
def gradient_sync(module: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Within it `backward` exchanges gradients between ranks; or, not `wanted`, only adds them."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(wanted)
    ddp = isinstance(module, DistributedDataParallel)
    with nullcontext() if wanted or not ddp else module.no_sync():
        yield


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be in shards as one; all ranks call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

"""BatchNorm over the batch of all ranks: how it is split changes nothing.

torch's SyncBatchNorm does the same on GPUs
alone; this one also runs on a CPU, where it is tested.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from einops import rearrange, reduce
from torch import Tensor, nn

from dcht.engine.distributed import World
from dcht.modules.wide import BatchNorm2d


class _MeanOverRanks(torch.autograd.Function):
    """The mean of a tensor over ranks; its gradient is the mean of the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()


class GlobalBatchNorm2d(BatchNorm2d):
    """`BatchNorm2d` whose training statistics are those of every rank's input (b, c, h, w)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize the input; while training, all ranks call this together with one shape."""
        if not self.training:
            return super().forward(input)
        wide = input.float()
        mean = _MeanOverRanks.apply(reduce(wide, "b c h w -> c", "mean"))
        centered = wide - rearrange(mean, "c -> c 1 1")
        variance = _MeanOverRanks.apply(reduce(centered.square(), "b c h w -> c", "mean"))
        self._follow(
            mean, variance, count=dist.get_world_size() * input.numel() // self.num_features
        )
        scale = self.weight * (variance + self.eps).rsqrt()
        shifted = centered * rearrange(scale, "c -> c 1 1") + rearrange(self.bias, "c -> c 1 1")
        return shifted.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, *, count: int) -> None:
        """Move the running statistics as BatchNorm does: they hold the unbiased variance."""
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


def normalize_over_ranks(module: nn.Module, world: World) -> None:
    """Replace every BatchNorm2d below `module`; nothing to do in a world of one."""
    if world.size == 1:
        return
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                replacement = GlobalBatchNorm2d(
                    child.num_features, eps=child.eps, momentum=child.momentum
                )
                replacement.load_state_dict(child.state_dict())
                setattr(parent, name, replacement)

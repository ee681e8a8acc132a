"""A linear layer that does not lay out its weights anew in every call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as nn_module

ROWS = 512
"""The layout is chosen for so many rows and kept for any number, so that what is drawn does not
depend on what was drawn before: those of a 512 px image with guidance."""


class Packed(NamedTuple):
    """Weights as oneDNN wants them, and which those were."""

    weight: Tensor
    source: Tensor
    """The layer's own, kept: no other tensor can have their address while they are here."""
    version: int


class Linear(nn.Linear):
    """`nn.Linear` that is faster where an image is drawn on a CPU.

    A matrix product lays its weights out for the processor's registers before it multiplies, in
    every call. While an image is drawn (`laid_out`), under `torch.inference_mode` on an x86
    processor, this layer does so once, beside its weights: state dicts, training, casts and
    compilers see the weights alone. It costs as much memory again as they take, for as long.
    Results agree with `nn.Linear` within rounding; `docs/speed.md` has what it saves.
    """

    _packed: Packed | None = None
    _drawings: int = 0
    """How many are under way that keep the layout."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return self.multiply(input) if self.packs(input) else super().forward(input)

    def multiply(self, x: Tensor, then: str = "none", algorithm: str = "") -> Tensor:
        """The product with packed weights, and what oneDNN does to it while it is in registers."""
        weight, found = self.weight.detach(), self._packed
        if found is None or (found.source.data_ptr(), found.version) != (
            weight.data_ptr(), weight._version
        ):  # fmt: skip
            laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
            found = self._packed = Packed(laid_out, weight, weight._version)
        packed = found.weight
        return torch.ops.mkldnn._linear_pointwise(x, packed, self.bias, then, [], algorithm)

    def packs(self, x: Tensor) -> bool:
        """Whether it multiplies this by packed weights."""
        # A parameter that is not plain is of a library that multiplies in its own way (int8,
        # shards); one that was made under inference mode does not tell when it changes.
        weight = self.weight
        return (
            # First: a tracer that came to the questions below would break its graph at them, and
            # ask again where it no longer compiles.
            not torch.compiler.is_compiling()
            and self._drawings > 0
            and torch.is_inference_mode_enabled()
            and x.device.type == weight.device.type == "cpu"
            and x.dtype == weight.dtype
            and x.dtype in _types()
            and type(weight) is nn.Parameter
            and not weight.is_inference()
            and x.numel() > 0
            and bool(torch.backends.mkldnn.enabled)
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._packed = None  # not kept for weights that went elsewhere
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """A copy lays out its own."""
        own = ("_packed", "_drawings")
        return {key: value for key, value in self.__dict__.items() if key not in own}


@contextmanager
def laid_out(part: object) -> Iterator[None]:
    """Keep the layout of a model's linear layers while an image is drawn, and no longer.

    Weights can change without telling: a merge of LoRA writes into `weight.data`, a fused optimizer
    into memory. What is drawn next is drawn with what they are then.
    """
    modules = part.modules() if isinstance(part, nn.Module) else ()
    layers = [layer for layer in modules if isinstance(layer, Linear)]
    _count(layers, 1)
    try:
        yield
    finally:
        _count(layers, -1)


_COUNTING = Lock()


def _count(layers: list[Linear], change: int) -> None:
    """Begin or end a drawing; other threads may draw with the same layers."""
    with _COUNTING:
        for layer in layers:
            layer._drawings += change
            if change > 0 or not layer._drawings:
                layer._packed = None


def gelu(layer: nn.Module, x: Tensor) -> Tensor:
    """GELU (tanh) of a layer's result (..., out_features), in one where weights are packed."""
    if isinstance(layer, Linear) and layer.packs(x) and not _watched(layer):
        return layer.multiply(x, "gelu", "tanh")
    return F.gelu(layer(x), approximate="tanh")


def _watched(layer: nn.Module) -> bool:
    """Whether somebody's code runs when the layer is called: hooks, or a `forward` of its own."""
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or "forward" in vars(layer)
        or type(layer).forward is not Linear.forward
        or nn_module._global_forward_hooks
        or nn_module._global_forward_pre_hooks
    )


@cache
def _types() -> frozenset[torch.dtype]:
    """The types whose weights are packed: those that this torch and this processor have what it
    takes for, which are private operators of torch, called by its own compiler, and the kind of
    processor that they were tried on.
    """
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return frozenset()
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return frozenset()
    halves = [torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else []
    return frozenset([torch.float32, *halves])


def packed_flops() -> dict[Any, Callable[..., int]]:
    """What `FlopCounterMode` has to be told: its `custom_mapping`."""

    def flops(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
        return 2 * math.prod(x[:-1]) * math.prod(weight)

    return {torch.ops.mkldnn._linear_pointwise: flops} if _types() else {}

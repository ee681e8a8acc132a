"""A linear layer that does not lay out its weights anew in every call."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    every call. Under `torch.inference_mode` on an x86 processor this layer does so once, beside its
    weights, and again where they changed: state dicts, training, casts and compilers see the
    weights alone. It costs as much memory again as they take. Results agree with `nn.Linear` within
    rounding; `docs/speed.md` has what it saves.
    """

    _packed: Packed | None = None

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
        return {key: value for key, value in self.__dict__.items() if key != "_packed"}


def gelu(layer: nn.Module, x: Tensor) -> Tensor:
    """GELU (tanh) of a layer's result (..., out_features), in one where weights are packed."""
    if isinstance(layer, Linear) and layer.packs(x):
        return layer.multiply(x, "gelu", "tanh")
    return F.gelu(layer(x), approximate="tanh")


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

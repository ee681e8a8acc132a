"""On which device a command computes, and in which precision (`--device`, `--precision`)."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from dcht.errors import UsageError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
"""What can be asked for. `auto` is asked for, never the default: bytes and scores would depend on
the processor."""


def pick_device(name: str) -> torch.device:
    """Return the device called `name`: `auto` (the best there is), `cpu`, `cuda[:n]` or `mps`.

    Raises:
        UsageError: it is not known, or not available here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if device is None or device.type not in counts:
        raise UsageError(f"device {name!r} is not known; use auto, cpu, cuda or mps")
    if (device.index or 0) >= counts[device.type]:
        raise UsageError(f"device {name!r} is not available here; use auto or cpu")
    return device


class Precision(Enum):
    """Of weights and activations; linear attention's sums and the quantizer are fp32 in all."""

    fp64 = "fp64"
    """Of a model that was cast in Python."""
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    int8 = "int8"
    """Of the linear layers of a generator's transformer and head; the rest is fp32."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of what is not int8."""
        import torch

        return {
            Precision.fp64: torch.float64,
            Precision.fp32: torch.float32,
            Precision.bf16: torch.bfloat16,
            Precision.fp16: torch.float16,
            Precision.int8: torch.float32,
        }[self]

    @classmethod
    def of(cls, dtype: torch.dtype) -> Precision:
        """That of weights of a float type."""
        return next(one for one in cls if one.dtype == dtype)

    def noted(self) -> dict[str, str]:
        """What a record of settings says of it: without a word it is fp32."""
        return {} if self is Precision.fp32 else {"precision": self.value}


def pick_precision(
    name: str | Precision, device: torch.device | str, *, int8: bool = False
) -> Precision:
    """The precision called `name`, of `PRECISIONS`; `auto`: the fastest that `device` is made for.

    That is bf16 where the processor has AVX512-BF16 or AMX or the GPU computes in it, fp16 on other
    GPUs, else fp32.

    Args:
        name: what was asked for.
        device: what computes.
        int8: whether the model may have int8 layers: one that draws images, and is not scored.

    Raises:
        UsageError: it is not known, or int8 where that is not to be had.
    """
    if name == "auto":
        return _best(device)
    try:
        found = Precision(name)
    except ValueError:
        raise UsageError(
            f"precision {name!r} is not known; use {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}"
        ) from None
    if found is Precision.int8 and not int8:
        raise UsageError(
            "precision int8 is of the linear layers that dcar generate and dcar edit draw with: an "
            "image tokenizer is made of convolutions, and scores are those of the weights as they "
            "are; use auto, fp32, bf16 or fp16"
        )
    return found


def _best(device: torch.device | str) -> Precision:
    import torch

    match torch.device(device).type:
        case "cpu":
            found = torch.cpu.get_capabilities()
            fast = found.get("avx512_bf16", False) or found.get("amx_bf16", False)
            return Precision.bf16 if fast else Precision.fp32
        case "cuda" if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision.bf16
        case _:
            return Precision.fp16


def dtype_of(
    precision: Precision | str | None, dtype: torch.dtype | None, device: torch.device | str | None
) -> torch.dtype | None:
    """The type of weights that are loaded by the name of a precision, or by `dtype`.

    Raises:
        UsageError: both were given, or what `pick_precision` raises.
    """
    if precision is None:
        return dtype
    if dtype is not None:
        raise UsageError(f"dtype {dtype} and precision {precision!r} say the same: give one")
    return pick_precision(precision, device or "cpu").dtype

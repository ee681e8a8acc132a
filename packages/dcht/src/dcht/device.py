"""Which device a command computes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcht.errors import UsageError

if TYPE_CHECKING:
    import torch


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

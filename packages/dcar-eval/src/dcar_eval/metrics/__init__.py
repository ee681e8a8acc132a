"""What is measured of images: pair by pair, and set against set, by named protocols.

Names load on first use: what a command line reads from this folder costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcar_eval.metrics.pixels import (
        channels_last as channels_last,
    )
    from dcar_eval.metrics.pixels import (
        eight_bits as eight_bits,
    )
    from dcar_eval.metrics.pixels import (
        psnr as psnr,
    )
    from dcar_eval.metrics.pixels import (
        ssim as ssim,
    )

_HOME = {
    "channels_last": "pixels",
    "eight_bits": "pixels",
    "psnr": "pixels",
    "ssim": "pixels",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

"""DC-HT: a 2D deep-compression hybrid tokenizer (32x, 32 channels, 16384 codes).

Names load on first use: importing this package alone costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcht.config import PRESETS, TokenizerConfig
    from dcht.display.codes import code_map
    from dcht.errors import CheckpointError, UsageError
    from dcht.latents import LatentsStore
    from dcht.latents.dataset import ContinuousSample, LatentDataset, LatentSample
    from dcht.modules.quantizer import Quantized
    from dcht.reconstruct.show import show_reconstruction
    from dcht.tokenizer import Latents, Tokenizer

_HOME = {
    "PRESETS": "config",
    "TokenizerConfig": "config",
    "ContinuousSample": "latents.dataset",
    "LatentDataset": "latents.dataset",
    "LatentSample": "latents.dataset",
    "CheckpointError": "errors",
    "UsageError": "errors",
    "LatentsStore": "latents",
    "Quantized": "modules.quantizer",
    "Latents": "tokenizer",
    "Tokenizer": "tokenizer",
    "code_map": "display.codes",
    "show_reconstruction": "reconstruct.show",
}

__version__ = "0.2.0"
__all__ = [
    "PRESETS",
    "CheckpointError",
    "ContinuousSample",
    "LatentDataset",
    "LatentSample",
    "Latents",
    "LatentsStore",
    "Quantized",
    "Tokenizer",
    "TokenizerConfig",
    "UsageError",
    "code_map",
    "show_reconstruction",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dcht' has no attribute {name!r}")
    return getattr(import_module(f"dcht.{_HOME[name]}"), name)

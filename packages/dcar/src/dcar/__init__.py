"""DC-AR: masked autoregressive text-to-image generation with a hybrid tokenizer.

Names load on first use: importing this package alone costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcar.config import (
        PRESETS,
        DCARConfig,
        GeneratorConfig,
        HeadConfig,
        Order,
        SamplingConfig,
        TextConfig,
    )
    from dcar.model import DCAR
    from dcar.modules.condition import Condition
    from dcar.modules.diffusion_head import DiffusionHead
    from dcar.modules.text import TextEncoder
    from dcar.modules.transformer import Generator, GeneratorOutput
    from dcar.pipeline import TextToImage
    from dcar.pipeline.film import unmasking_film
    from dcar.pipeline.results import GenerationResult, StepPreview
    from dcar.sampler import sample_indices, sample_residual, unmask
    from dcar.sampling.models import MaskedModel, ResidualHead

_HOME = {
    "Condition": "modules.condition",
    "DCAR": "model",
    "PRESETS": "config",
    "DCARConfig": "config",
    "DiffusionHead": "modules.diffusion_head",
    "GenerationResult": "pipeline.results",
    "Generator": "modules.transformer",
    "GeneratorConfig": "config",
    "GeneratorOutput": "modules.transformer",
    "HeadConfig": "config",
    "MaskedModel": "sampling.models",
    "Order": "config",
    "ResidualHead": "sampling.models",
    "SamplingConfig": "config",
    "StepPreview": "pipeline.results",
    "TextConfig": "config",
    "TextEncoder": "modules.text",
    "TextToImage": "pipeline",
    "sample_indices": "sampler",
    "sample_residual": "sampler",
    "unmask": "sampler",
    "unmasking_film": "pipeline.film",
}

__version__ = "0.2.0"
__all__ = [
    "DCAR",
    "PRESETS",
    "Condition",
    "DCARConfig",
    "DiffusionHead",
    "GenerationResult",
    "Generator",
    "GeneratorConfig",
    "GeneratorOutput",
    "HeadConfig",
    "MaskedModel",
    "Order",
    "ResidualHead",
    "SamplingConfig",
    "StepPreview",
    "TextConfig",
    "TextEncoder",
    "TextToImage",
    "sample_indices",
    "sample_residual",
    "unmask",
    "unmasking_film",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dcar' has no attribute {name!r}")
    return getattr(import_module(f"dcar.{_HOME[name]}"), name)

"""LoRA: a big checkpoint is fine-tuned through small matrices beside its own (peft).

Every linear layer of the blocks of generator and head gets a pair A (r, in), B (out, r); of these
parts training changes the pairs alone, and W + alpha / r B A is what the layer does. A small text
encoder of the checkpoint's own trains whole beside them, or words that are new to it would say
nothing. What a run publishes has the product merged into W: it is a checkpoint like any other, and
needs no peft.
"""

from __future__ import annotations

from torch import Tensor, nn

from dcar.model import DCAR
from dcar.train_config import LoraConfig
from dcht.errors import UsageError

A, B, BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."


def add_lora(model: DCAR, config: LoraConfig) -> None:
    """Put A and B into a model and freeze the rest of it; B being zero, its outputs stay.

    Raises:
        UsageError: peft is not installed.
    """
    try:
        import peft
    except ImportError:
        raise UsageError(
            f"lora.rank={config.rank} needs peft; install it with pip install 'dcar[lora]'"
        ) from None
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".blocks." in name
    ]
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.rank * config.scale,  # pyright: ignore[reportArgumentType]
        target_modules=layers,
    )
    peft.inject_adapter_in_model(settings, model)


def merge_lora(tensors: dict[str, Tensor], config: LoraConfig) -> dict[str, Tensor]:
    """The tensors of a model with its A and B merged into the weights, under the usual names.

    Tensors of a model without LoRA come back as they are.
    """
    merged = {}
    for key, value in tensors.items():
        if key.endswith((A, B)):
            continue
        stem, base, name = key.partition(BASE)
        if base and name == "weight":
            value = value + config.scale * (tensors[stem + B] @ tensors[stem + A])
        merged[f"{stem}.{name}" if base else key] = value
    return merged

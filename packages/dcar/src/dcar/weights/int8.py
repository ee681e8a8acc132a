"""A generator whose linear layers multiply in int8, by torchao (extra `int8`)."""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn

from dcar.model import DCAR
from dcht.errors import UsageError
from dcht.modules.wide import Wide


def require_torchao() -> None:
    """Refuse int8 where torchao is not there.

    Raises:
        UsageError: naming the extra.
    """
    if find_spec("torchao") is None:
        raise UsageError("precision int8 needs torchao: pip install 'dcar[int8]'")


def to_int8(model: DCAR) -> None:
    """Make the linear layers of transformer and head int8, in place.

    A row of weights and a token of activations have a scale each, that of the activations from
    their values as they come; embeddings, norms, attention's products and what half precision
    leaves in fp32 stay as they are.
    """
    from torchao.quantization import (  # pyright: ignore[reportMissingImports]
        Int8DynamicActivationInt8WeightConfig,
        quantize_,
    )

    quantize_(
        model,
        Int8DynamicActivationInt8WeightConfig(),
        lambda layer, name: isinstance(layer, nn.Linear) and not isinstance(layer, Wide),
    )


def is_int8(model: DCAR) -> bool:
    """Whether `to_int8` was applied to a model."""
    layers = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
    return any(type(layer.weight).__module__.startswith("torchao") for layer in layers)

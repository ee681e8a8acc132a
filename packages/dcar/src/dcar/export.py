"""A generator as graphs that run without this package: what `dcht.export` is for a tokenizer.

A sampler is a loop around them, with random numbers of its own. Batch, height and width of the grid
stay free; the length of the text is the model's.

Shapes: b images, h w grid, n = h w, k codes, d width, m heads, l text length, e text width,
p positions of all images, c latent channels, blocks of the transformer first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dcar.config import CheckpointConfig
from dcar.model import DCAR
from dcar.modules.condition import Encoder
from dcar.modules.diffusion_head import DiffusionHead
from dcar.modules.text import TextEncoder
from dcar.modules.transformer import Generator, TextContext
from dcar.weights.pretrained import TOKENIZER_FILE, Pretrained, load_tokenizer
from dcht.checkpoint import to_written

NAMES = {
    "text": (["ids", "mask"], ["text"]),
    "context": (["text", "mask", "drop"], ["keys", "values"]),
    "step": (["indices", "keys", "values", "mask"], ["logits", "hidden"]),
    "denoise": (["x", "t", "hidden"], ["epsilon", "variance"]),
}
"""Each graph's inputs and outputs; there is no `text` of a frozen T5 and no `denoise` without a
residual head."""


class _Text(nn.Module):
    def __init__(self, text: Encoder) -> None:
        super().__init__()
        self.text = text

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.text(ids, mask)


class _Context(nn.Module):
    """Keys and values, each (blocks, b, m, l, d / m); `drop` (b,) takes the null caption."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, text: Tensor, mask: Tensor, drop: Tensor) -> tuple[Tensor, Tensor]:
        context = self.generator.embed_text(self.generator.drop_text(text, drop), mask)
        return torch.stack(context.keys), torch.stack(context.values)


class _Step(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(
        self, indices: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        context = TextContext(list(keys), list(values), mask[:, None, None])
        logits, hidden = self.generator(indices, context=context)
        return logits, hidden


class _Denoise(nn.Module):
    def __init__(self, head: DiffusionHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, t: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        return self.head(x, t, hidden).chunk(2, dim=1)


def export_programs(model: DCAR, text: Encoder) -> dict[str, ExportedProgram]:
    """`torch.export` programs by name, of those in `NAMES` that the model has.

    text: token ids and mask (b, l) to embeddings (b, l, e). context: embeddings with their mask,
    and `drop` (b,), where the null caption of guidance comes in place, to keys and values, once for
    all steps. step: indices (b, h, w), `mask_id` where hidden, to logits (b, n, k) and hidden
    states (b, n, d). denoise: noisy residuals (p, c) of unit scale, training timesteps (p,) and
    hidden states (p, d) to epsilon and variance value (p, c), as `DiffusionHead.forward` has them.

    Args:
        model: in eval mode, on a CPU, in fp32.
        text: its text encoder.
    """
    generator, config = model.generator, model.config.generator
    batch, rows, columns, positions = Dim("batch"), Dim("h"), Dim("w"), Dim("p")
    b, h, w = 2, 3, 4  # an example; any does
    ids = torch.zeros(b, text.length, dtype=torch.int64)
    mask = torch.ones(b, text.length, dtype=torch.bool)
    embeddings = torch.zeros(b, text.length, config.text_dim)
    indices = torch.zeros(b, h, w, dtype=torch.int64)
    heads = (config.depth, b, config.num_heads, text.length, config.width // config.num_heads)
    graphs: dict[str, tuple[nn.Module, tuple[Tensor, ...], tuple[Any, ...]]] = {
        "context": (
            _Context(generator),
            (embeddings, mask, torch.zeros(b, dtype=torch.bool)),
            ({0: batch}, {0: batch}, {0: batch}),
        ),
        "step": (
            _Step(generator),
            (indices, torch.zeros(heads), torch.zeros(heads), mask),
            ({0: batch, 1: rows, 2: columns}, {1: batch}, {1: batch}, {0: batch}),
        ),
    }
    if text.trained:
        graphs["text"] = (_Text(text), (ids, mask), ({0: batch}, {0: batch}))
    if model.head is not None:
        x = torch.zeros(b * h, model.head.latent_channels)
        hidden = torch.zeros(b * h, config.width)
        shapes = ({0: positions}, {0: positions}, {0: positions})
        t = torch.zeros(b * h, dtype=torch.int64)
        graphs["denoise"] = (_Denoise(model.head), (x, t, hidden), shapes)
    with torch.no_grad():
        return {
            name: torch.export.export(graph, examples, dynamic_shapes=shapes)
            for name, (graph, examples, shapes) in graphs.items()
        }


def facts_of(found: Pretrained) -> dict[str, Any]:
    """What a sampler outside of this package has to know of a checkpoint, as plain JSON values."""
    model = found.config.model
    factor = load_tokenizer(found.config.tokenizer, found.folder).config.downsampling
    classes = model.text.classes
    return {
        "checkpoint": found.sha256,
        "tokenizer": found.config.tokenizer.sha256,
        "grid": [found.config.height // factor, found.config.width // factor],
        "mask_id": model.generator.codebook_size,
        "text_length": found.text.length,
        "classes": None if classes is None else classes.names,
        "sampling": to_written(found.config.sampling),
        "rounding": found.config.rounding.value,
        "residual_std": None if model.discrete_only else model.head.residual_std,
    }


def beside(found: Pretrained) -> dict[str, bytes]:
    """The files beside the graphs, by name: the text tokenizer's, where the checkpoint has one."""
    if not found.text.trained or not isinstance(found.text, TextEncoder):
        return {}
    return {TOKENIZER_FILE: found.text.tokenizer_json().encode()}


def graph_names(config: CheckpointConfig) -> list[str]:
    """Which of `NAMES` a checkpoint has."""
    left_out = set()
    if config.model.text.name is not None:
        left_out.add("text")
    if config.model.discrete_only:
        left_out.add("denoise")
    return [name for name in NAMES if name not in left_out]

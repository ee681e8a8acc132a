"""The small text encoder: a T5 encoder, as transformers computes it, without importing it.

transformers' models take longer to import than generating an image, so only a frozen T5 pays
for them. Parameters have transformers' names and a call is answered as transformers answers it:
`dcar.modules.text` holds either. `tests/dcar/modules/test_t5.py` compares the two.

Source: Raffel et al., 2020, section 2.1 (arXiv:1910.10683); the first layout: ReLU, biases of
relative positions shared by all blocks, no scaling of the attention's logits.

Shapes: token ids and mask (b, l), embeddings (b, l, e), m heads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

NORM_EPS = 1e-6
BUCKETS, MAX_DISTANCE = 32, 128
"""Of relative positions: half of them before, half after; beyond the distance all are one."""


class T5Output(NamedTuple):
    """The part of transformers' output that is read."""

    last_hidden_state: Tensor


class RMSNorm(nn.Module):
    """Root mean square norm, in fp32, without a bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(b, l, e) to (b, l, e) in the weight's precision."""
        normed = F.rms_norm(x.float(), x.shape[-1:], eps=NORM_EPS)
        return self.weight * normed.to(self.weight.dtype)


class SelfAttention(nn.Module):
    """Attention whose only notion of order is a bias by relative position."""

    def __init__(self, width: int, num_heads: int, *, biased: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        inner = width // num_heads * num_heads
        # Small queries stand in for the scaling of the logits.
        self.q = _linear(width, inner, std=(width * inner / num_heads) ** -0.5)
        self.k = _linear(width, inner, std=width**-0.5)
        self.v = _linear(width, inner, std=width**-0.5)
        self.o = _linear(inner, width, std=inner**-0.5)
        if biased:
            self.relative_attention_bias = nn.Embedding(BUCKETS, num_heads)
            nn.init.normal_(self.relative_attention_bias.weight, std=width**-0.5)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """From x (b, l, e), with a bias (b or 1, m, l, l), to (b, l, e)."""
        q, k, v = (
            rearrange(part(x), "b l (m c) -> b m l c", m=self.num_heads)
            for part in (self.q, self.k, self.v)
        )
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(rearrange(x, "b m l c -> b l (m c)"))


class FeedForward(nn.Module):
    """Two layers with a ReLU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wi = _linear(width, 4 * width, std=width**-0.5)
        self.wo = _linear(4 * width, width, std=(4 * width) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(b, l, e) to (b, l, e), in the precision of `wo`: float16 overflows here."""
        return self.wo(F.relu(self.wi(x)).to(self.wo.weight.dtype))


class AttentionLayer(nn.Module):
    """Norm and attention around a shortcut."""

    def __init__(self, width: int, num_heads: int, *, biased: bool) -> None:
        super().__init__()
        self.SelfAttention = SelfAttention(width, num_heads, biased=biased)
        self.layer_norm = RMSNorm(width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """From x (b, l, e), with a bias (b or 1, m, l, l), to (b, l, e)."""
        return x + self.SelfAttention(self.layer_norm(x), bias)


class FeedForwardLayer(nn.Module):
    """Norm and feed-forward around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.DenseReluDense = FeedForward(width)
        self.layer_norm = RMSNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, l, e) to (b, l, e)."""
        return x + self.DenseReluDense(self.layer_norm(x))


class Block(nn.Module):
    """One block; `layer` is transformers' name for the two in it."""

    def __init__(self, width: int, num_heads: int, *, biased: bool) -> None:
        super().__init__()
        attention = AttentionLayer(width, num_heads, biased=biased)
        self.layer = nn.ModuleList([attention, FeedForwardLayer(width)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """From x (b, l, e), with a bias (b or 1, m, l, l), to (b, l, e)."""
        attention, feed_forward = self.layer
        return feed_forward(attention(x, bias))


class T5Encoder(nn.Module):
    """A T5 encoder with random weights and no dropout.

    Args:
        vocabulary: tokens.
        width: of embeddings, e; a feed-forward layer is four times as wide.
        depth: blocks, at least 1.
        num_heads: of the attention.
        positions: add sin-cos positions to the result, which T5 does not.
    """

    def __init__(
        self, *, vocabulary: int, width: int, depth: int, num_heads: int, positions: bool = False
    ) -> None:
        super().__init__()
        self.positions = positions
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.block = nn.ModuleList(
            Block(width, num_heads, biased=number == 0) for number in range(depth)
        )
        self.final_layer_norm = RMSNorm(width)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> T5Output:
        """Embeddings (b, l, e) of token ids (b, l).

        Args:
            input_ids: (b, l) int64.
            attention_mask: (b, l), 0 at tokens that none may attend to; None: all are seen.
        """
        buckets = relative_buckets(input_ids.shape[1], input_ids.device)
        # The first block's is that of all.
        table = self.get_submodule("block.0.layer.0.SelfAttention.relative_attention_bias")
        bias = rearrange(table(buckets), "q k m -> 1 m q k")
        if attention_mask is not None:
            hidden = rearrange(attention_mask == 0, "b k -> b 1 1 k")
            bias = bias.masked_fill(hidden, torch.finfo(bias.dtype).min)
        x = self.embed_tokens(input_ids)
        for block in self.block:
            x = block(x, bias)
        x = self.final_layer_norm(x)
        if self.positions:
            x = x + sin_cos_positions(*x.shape[1:], x.device).to(x.dtype)
        return T5Output(x)


def relative_buckets(length: int, device: torch.device) -> Tensor:
    """The bucket (l, l) of each pair of positions, query by key.

    Distances below a quarter of the buckets have one each; the rest is spaced by logarithm.
    """
    positions = torch.arange(length, device=device)
    offset = rearrange(positions, "k -> 1 k") - rearrange(positions, "q -> q 1")
    half = BUCKETS // 2
    exact = half // 2
    distance = offset.abs()
    octaves = torch.log(distance.clamp(min=exact) / exact) / math.log(MAX_DISTANCE / exact)
    far = (exact + (octaves * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(distance < exact, distance, far) + half * (offset > 0)


def sin_cos_positions(length: int, width: int, device: torch.device) -> Tensor:
    """Positions (l, e) as waves, sines then cosines, the longest of some 6,000 tokens.

    Source: Vaswani et al., 2017, section 3.5, but for the order of the channels.
    """
    octaves = torch.arange(width // 2, device=device) / (width // 2)
    angles = torch.arange(length, device=device)[:, None] * 1000.0**-octaves
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _linear(inputs: int, outputs: int, *, std: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=std)
    return layer

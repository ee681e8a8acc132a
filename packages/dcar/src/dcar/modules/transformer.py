"""The masked transformer of section 3.2: indices and text in, logits and hidden states out.

Only indices ever enter it; residual tokens never do. The block is PixArt-alpha's without adaptive
norms: self-attention, cross-attention to the text (without a norm in front), MLP.

Shapes: b batch, h w latent grid, n = h w positions, d width, k codebook size, l text length,
e text width.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dcar.config import GeneratorConfig
from dcar.modules.packed import Linear, gelu

NORM_EPS = 1e-6


class GeneratorOutput(NamedTuple):
    """Logits (b, n, k) over the codes; hidden (b, n, d), the last block before the final norm."""

    logits: Tensor
    hidden: Tensor


class TextContext(NamedTuple):
    """The text as the blocks see it: exact, computed once and used for every step of a sampler."""

    keys: list[Tensor]
    """One (b, heads, l, d / heads) a block."""
    values: list[Tensor]
    mask: Tensor
    """(b, 1, 1, l) boolean, True at real tokens."""


class SelfAttention(nn.Module):
    """Bidirectional attention among the positions."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.qkv = Linear(config.width, 3 * config.width)
        self.q_norm = nn.LayerNorm(config.width) if config.qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(config.width) if config.qk_norm else nn.Identity()
        self.out = Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) to (b, n, d)."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (rearrange(t, "b n (m c) -> b m n c", m=self.num_heads) for t in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out(rearrange(attended, "b m n c -> b n (m c)"))


class CrossAttention(nn.Module):
    """Attention from the positions to the text."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.q = Linear(config.width, config.width)
        self.kv = Linear(config.width, 2 * config.width)
        self.out = Linear(config.width, config.width)

    def project_text(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (b, heads, l, d / heads) of the projected text (b, l, d)."""
        k, v = rearrange(self.kv(text), "b l (two m c) -> two b m l c", two=2, m=self.num_heads)
        return k, v

    def forward(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """(b, n, d) to (b, n, d)."""
        q = rearrange(self.q(x), "b n (m c) -> b m n c", m=self.num_heads)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out(rearrange(attended, "b m n c -> b n (m c)"))


class MLP(nn.Module):
    """Two linear layers with GELU (tanh) between."""

    def __init__(self, in_dim: int, mid_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fc1 = Linear(in_dim, mid_dim)
        self.fc2 = Linear(mid_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_dim) to (..., out_dim)."""
        return self.fc2(gelu(self.fc1, x))


class Block(nn.Module):
    """PixArt-alpha's block without adaptive norms; the two norms have no parameters."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.cross_attention = CrossAttention(config)
        self.mlp = MLP(config.width, config.mlp_dim, config.width)

    def forward(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """(b, n, d) to (b, n, d), attending to the text's keys and values."""
        x = x + self.attention(plain_norm(x))
        x = x + self.cross_attention(x, k, v, mask)
        return x + self.mlp(plain_norm(x))


class Generator(nn.Module):
    """The masked transformer with its embeddings and its output layer.

    The output layer is not tied to the embedding, and there is no logit for the mask token: so the
    count is the paper's 634 M (Table 2).
    """

    null_text: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        """Keep only what enters each block; the backward pass computes the rest again."""
        self.mask_id = config.codebook_size
        self.embedding = nn.Embedding(config.codebook_size + 1, config.width)
        self.caption = MLP(config.text_dim, config.width, config.width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.depth)])
        self.to_logits = Linear(config.width, config.codebook_size)
        # The null caption is random and never trained (PixArt-alpha): a saved buffer.
        null_text = torch.empty(config.text_length, config.text_dim)
        self.register_buffer("null_text", nn.init.normal_(null_text, std=config.text_dim**-0.5))
        self._initialize()

    def _initialize(self) -> None:
        # not in paper: PixArt-alpha's initialization.
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for layer in (self.caption.fc1, self.caption.fc2):
            nn.init.normal_(layer.weight, std=0.02)
        for block in self.blocks:
            nn.init.zeros_(block.cross_attention.out.weight)  # type: ignore[union-attr]
        nn.init.zeros_(self.to_logits.weight)

    def drop_text(self, text: Tensor, drop: Tensor) -> Tensor:
        """Replace the text (b, l, e) of the samples in `drop` (b,) by the null caption.

        A dropped sample keeps its own text mask, here and in the sampler (PixArt-alpha).
        """
        null = self.null_text[: text.shape[1]].to(text.dtype)
        return torch.where(rearrange(drop, "b -> b 1 1"), null, text)

    def embed_text(self, text: Tensor, text_mask: Tensor) -> TextContext:
        """The keys and values of every block for text (b, l, e) with text_mask (b, l).

        The text may be of any float type.

        Raises:
            ValueError: the text is longer or of another width than the config says.
        """
        length, dim = text.shape[1:]
        if length > self.config.text_length or dim != self.config.text_dim:
            raise ValueError(
                f"text has shape {tuple(text.shape)}; expected (b, l, {self.config.text_dim}) "
                f"with l at most {self.config.text_length}"
            )
        projected = self.caption(text.to(self.caption.fc1.weight.dtype))
        pairs = [block.cross_attention.project_text(projected) for block in self.blocks]  # type: ignore[union-attr, operator]
        keys, values = zip(*pairs, strict=True)
        mask = rearrange(text_mask.bool(), "b l -> b 1 1 l")
        return TextContext(list(keys), list(values), mask)

    def first_rows(self, context: TextContext, count: int) -> TextContext:
        """The context of the first `count` images: views, nothing is copied."""
        return TextContext(
            [keys[:count] for keys in context.keys],
            [values[:count] for values in context.values],
            context.mask[:count],
        )

    def encode(self, indices: Tensor, context: TextContext) -> Tensor:
        """Hidden states (b, n, d) of indices (b, h, w): the last block before the final norm."""
        height, width = indices.shape[1:]
        x = self.embedding(rearrange(indices, "b h w -> b (h w)"))
        x = x + position_table(
            height, width, self.config.width, self.config.position_extent, x.device
        ).to(x.dtype)
        return self.run_blocks(x, context)

    def run_blocks(self, x: Tensor, context: TextContext) -> Tensor:
        """Hidden states (b, n, d) of embeddings (b, n, d): what `TextToImage.compile` compiles."""
        for block, k, v in zip(self.blocks, context.keys, context.values, strict=True):
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, k, v, context.mask, use_reentrant=False)
            else:
                x = block(x, k, v, context.mask)
        return x

    def predict(self, hidden: Tensor) -> Tensor:
        """Logits (..., k) of hidden states (..., d)."""
        return self.to_logits(plain_norm(hidden))

    def forward(
        self,
        indices: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        *,
        context: TextContext | None = None,
    ) -> GeneratorOutput:
        """Predict every position from the visible indices and the text.

        Args:
            indices: (b, h, w), codes below `codebook_size` or `mask_id` where hidden; or (b, n),
                a square grid row by row.
            text: (b, l, e) embeddings of the caption.
            text_mask: (b, l), nonzero at real tokens, at least one a row.
            context: what `embed_text` made of both, instead of them.

        Raises:
            ValueError: no text and no context, a text of another shape than the config's, or
                (b, n) with n not a square.
        """
        if indices.ndim == 2:
            side = round(indices.shape[1] ** 0.5)
            if side * side != indices.shape[1]:
                raise ValueError(f"{indices.shape[1]} positions are no square; pass (b, h, w)")
            indices = rearrange(indices, "b (h w) -> b h w", h=side)
        if context is None:
            if text is None or text_mask is None:
                raise ValueError("pass text and text_mask, or context")
            context = self.embed_text(text, text_mask)
        hidden = self.encode(indices, context)
        return GeneratorOutput(self.predict(hidden), hidden)


def plain_norm(x: Tensor) -> Tensor:
    """LayerNorm over the last axis without parameters."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def position_table(
    height: int, width: int, dim: int, extent: float, device: torch.device
) -> Tensor:
    """Fixed 2-D sin-cos positions (h w, dim) of a grid: column half, row half; sin, then cos.

    Every grid spans 0 to `extent`, so 8 x 8 and 16 x 16 cover the same range and a checkpoint fits
    any size. # not in paper: PixArt-alpha's table with the release's base size.
    """
    if torch.compiler.is_exporting():
        # The sides are symbols, under which nothing is kept; onnxruntime has no cosine of fp64.
        return _position_table(height, width, dim, extent, torch.float32).to(device)
    return _kept_table(height, width, dim, extent, device)


@lru_cache(maxsize=32)
def _kept_table(height: int, width: int, dim: int, extent: float, device: torch.device) -> Tensor:
    # Cached: it must not become an inference tensor because a sampler was the first to ask for it.
    with torch.inference_mode(False):
        return _position_table(height, width, dim, extent).to(device)


def _position_table(
    height: int, width: int, dim: int, extent: float, dtype: torch.dtype = torch.float64
) -> Tensor:
    octaves = torch.arange(dim // 4, dtype=dtype, device="cpu") / (dim // 4)
    frequencies = 10000.0**-octaves
    rows = torch.arange(height, dtype=dtype, device="cpu") * (extent / height)
    columns = torch.arange(width, dtype=dtype, device="cpu") * (extent / width)
    grid_rows, grid_columns = torch.meshgrid(rows, columns, indexing="ij")

    def waves(positions: Tensor) -> Tensor:
        angles = rearrange(positions, "h w -> (h w) 1") * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    table = torch.cat([waves(grid_columns), waves(grid_rows)], dim=1)
    return table.float()

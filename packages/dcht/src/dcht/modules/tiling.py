"""Large images: the encoder and decoder piece by piece, with the result of the whole.

Nothing is blended. Convolutions are run on tiles with a margin as wide as they can see, which is
then cut off. The linear attention sees the whole image, but only through a sum over positions
(`dcht.modules.layers.summarize`): one pass over the tiles adds the sums up, a second one reads the
total. What remains of the whole image are the maps of 1/8 of its sides and coarser, so memory grows
slowly with the image; between tiles there is no seam, because each pixel is what it would be
without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dcht.modules.autoencoder import Decoder, Encoder, channels_last
from dcht.modules.layers import (
    Downsample,
    EViTBlock,
    GLUConv,
    LinearAttention,
    ResBlock,
    Upsample,
    split_heads,
    summarize,
)

TILE = 512
"""Side of a tile in pixels of the image. Half as much takes longer, for its margins."""

Area = tuple[slice, slice]
Local = Callable[[Tensor], Tensor]


class Tile(NamedTuple):
    """Rows and columns: of the tile, of the tile with its margin, and of the tile within that."""

    core: Area
    outer: Area
    inner: Area


def tiles(height: int, width: int, *, side: int, margin: int) -> Iterator[Tile]:
    """Cover a map with tiles; margins stop at the map's border."""

    def spans(length: int) -> Iterator[tuple[slice, slice, slice]]:
        for start in range(0, length, side):
            stop = min(start + side, length)
            first, last = max(0, start - margin), min(length, stop + margin)
            yield slice(start, stop), slice(first, last), slice(start - first, stop - first)

    for rows in spans(height):
        for columns in spans(width):
            yield Tile(*zip(rows, columns, strict=True))


def run_local(layer: Local, x: Tensor, *, side: int, margin: int, scale: Fraction) -> Tensor:
    """`layer` of x (b, c, h, w) tile by tile; exact if no output needs more than the margin.

    Args:
        layer: maps (b, c, h, w) to (b, c', scale h, scale w).
        x: the whole map.
        side: of a tile, in x; `scale` of it must be whole, and of the margin.
        margin: how far the layer sees, in x.
        scale: output size over input size.
    """
    height, width = x.shape[-2:]
    out = None
    for tile in tiles(height, width, side=side, margin=margin):
        rows, columns = (_scaled(span, scale) for span in tile.inner)
        result = layer(x[..., tile.outer[0], tile.outer[1]])[..., rows, columns]
        if out is None:
            size = (int(height * scale), int(width * scale))
            out = torch.empty(
                (*result.shape[:2], *size),
                dtype=result.dtype,
                device=result.device,
                memory_format=torch.channels_last,
            )
        rows, columns = (_scaled(span, scale) for span in tile.core)
        out[..., rows, columns] = result
    assert out is not None, "an image has at least one pixel"
    return out


def _scaled(span: slice, scale: Fraction) -> slice:
    return slice(int(span.start * scale), int(span.stop * scale))


def run_attention(attention: LinearAttention, x: Tensor, *, side: int) -> Tensor:
    """`attention` of x (b, c, h, w) tile by tile: first the sum over all tiles, then its use."""
    margin = 0 if attention.local is None else 2

    def heads(tile: Tile) -> tuple[Tensor, Tensor, Tensor]:
        outer = x[..., tile.outer[0], tile.outer[1]]
        return split_heads(attention.project(outer)[..., tile.inner[0], tile.inner[1]])

    areas = list(tiles(*x.shape[-2:], side=side, margin=margin))
    summary = sum(summarize(k, v) for _, k, v in map(heads, areas))
    assert isinstance(summary, Tensor), "an image has at least one pixel"
    out = torch.empty_like(x)
    for tile in areas:
        core = x[..., tile.core[0], tile.core[1]]
        q, _, _ = heads(tile)
        out[..., tile.core[0], tile.core[1]] = attention.apply_summary(core, q, summary)
    return out


def sight(layer: nn.Module) -> int:
    """How many pixels of its input a local layer sees to each side."""
    if isinstance(layer, ResBlock):
        return 2
    return 1 if isinstance(layer, (nn.Conv2d, Downsample, Upsample, GLUConv)) else 0


def scale_of(layer: nn.Module) -> Fraction:
    """A layer's output size over its input size."""
    if isinstance(layer, Downsample):
        return Fraction(1, 2)
    return Fraction(2 if isinstance(layer, Upsample) else 1)


def run_coarse(layer: nn.Module, x: Tensor, *, side: int) -> Tensor:
    """A layer of the coarse stages, by tiles of `side` pixels of x."""
    if max(x.shape[-2:]) <= side:
        return layer(x)
    if isinstance(layer, EViTBlock):
        x = run_attention(layer.attention, x, side=side)
        return run_chain([layer.glu], x, side=side)
    return run_chain([layer], x, side=side)


def run_chain(layers: Sequence[nn.Module], x: Tensor, *, side: int) -> Tensor:
    """Local layers, all of them on one tile before the next, so that no map between them is whole.

    Args:
        layers: in running order.
        x: the whole map that the first of them reads.
        side: of a tile, in x.
    """
    seen, scale = Fraction(0), Fraction(1)
    for layer in layers:
        seen += sight(layer) / scale
        scale *= scale_of(layer)
    step = scale.denominator
    margin = step * math.ceil(seen / step)
    return run_local(nn.Sequential(*layers), x, side=side, margin=margin, scale=scale)


@torch.no_grad()
def encode_tiled(encoder: Encoder, images: Tensor, *, tile: int = TILE) -> Tensor:
    """What `encoder` makes of images (b, 3, H, W), in little memory.

    Args:
        encoder: in eval mode.
        images: of any size that the encoder takes.
        tile: side of a tile in pixels, a multiple of 32.
    """
    layers = encoder.layers()
    coarse = next(
        (i for i, layer in enumerate(layers) if isinstance(layer, EViTBlock)), len(layers)
    )
    x = run_chain(layers[:coarse], channels_last(images), side=tile)
    for layer in layers[coarse:]:
        x = run_coarse(layer, x, side=tile * x.shape[-1] // images.shape[-1])
    return encoder.leave(x)


@torch.no_grad()
def decode_tiled(decoder: Decoder, latent: Tensor, *, tile: int = TILE) -> Tensor:
    """What `decoder` makes of a latent (b, c, h, w), in little memory.

    Args:
        decoder: in eval mode.
        latent: z, z_q or z_q + residual, of any size.
        tile: side of a tile in pixels of the image, a multiple of 32.
    """
    layers = decoder.layers()
    fine = max((i + 1 for i, layer in enumerate(layers) if isinstance(layer, EViTBlock)), default=0)
    x = decoder.enter(latent)
    width = int(latent.shape[-1] * math.prod(map(scale_of, layers)))
    for layer in layers[:fine]:
        x = run_coarse(layer, x, side=tile * x.shape[-1] // width)
    return run_chain(layers[fine:], x, side=tile * x.shape[-1] // width).contiguous()

"""The blocks of DC-AE (the autoencoder the paper adopts in section 3.1), in plain PyTorch.

Shapes: b batch, c channels, h w grid, e head width (32), n = h w positions.
Every block keeps (b, c, h, w); resampling changes h, w by a factor of 2.
"""

from __future__ import annotations

from typing import assert_never

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from dcht.config import Act, Block, Norm, Resample
from dcht.modules.wide import BatchNorm2d, widen

HEAD_DIM = 32
EXPANSION = 4
NORM_EPS = 1e-5
ATTENTION_EPS = 1e-15


class ChannelNorm(nn.Module):
    """RMS norm, or LayerNorm where `center`, over the channels of each pixel, with affine.

    Computed in fp32: half precision overflows in the squares.
    """

    def __init__(self, channels: int, *, center: bool) -> None:
        super().__init__()
        self.center = center
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (b, c, h, w) over c."""
        y = x.float()
        if self.center:
            y = y - y.mean(dim=1, keepdim=True)
        y = y * torch.rsqrt(y.square().mean(dim=1, keepdim=True) + NORM_EPS)
        weight, bias = (rearrange(p, "c -> c 1 1") for p in (self.weight, self.bias))
        return torch.addcmul(bias, y.to(x.dtype), weight)


@torch.autocast("cpu", enabled=False)
@torch.autocast("cuda", enabled=False)
def convolve_as(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x) in the precision of x (b, c, h, w), whatever that of the weights or of autocast."""
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    return F.conv2d(x, conv.weight.to(x.dtype), bias, padding=conv.padding)


def project_normalized(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """norm(conv(x)) of x (b, c, h, w), in the precision of x; the result in that of the weights."""
    return norm(convolve_as(conv, x)).to(conv.weight.dtype)


def build_norm(norm: Norm, channels: int) -> nn.Module:
    """The normalization layer for `channels` channels."""
    match norm:
        case Norm.RMS:
            return ChannelNorm(channels, center=False)
        case Norm.LAYER:
            return ChannelNorm(channels, center=True)
        case Norm.BATCH:
            return BatchNorm2d(channels, eps=NORM_EPS)
        case _:
            assert_never(norm)


ACTIVATIONS: dict[Act, type[nn.Module]] = {Act.SILU: nn.SiLU, Act.RELU: nn.ReLU}


class ResBlock(nn.Module):
    """x + norm(conv(act(conv(x)))): the norm comes last, nothing before the first conv."""

    def __init__(self, channels: int, *, norm: Norm, act: Act) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = ACTIVATIONS[act]()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = build_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to the same shape."""
        y = self.act(self.conv1(x))
        if isinstance(self.norm, nn.BatchNorm2d) and not self.norm.training:
            return x + convolve_normalized(y, self.conv2, self.norm)
        return x + self.norm(self.conv2(y))


def convolve_normalized(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """norm(conv(x)) of x (b, c, h, w) in eval mode, as one convolution: the norm is linear there.

    Its factors are folded into a copy of the weights on every call: that is little work beside the
    convolution, and checkpoints, training and export know of nothing.
    """
    assert norm.running_mean is not None and norm.running_var is not None, "it tracks both"
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight = conv.weight * rearrange(scale, "o -> o 1 1 1")
    bias = norm.bias - norm.running_mean * scale
    # The norm's tensors are fp32 even where the others are not.
    return F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=conv.padding)


class LinearAttention(nn.Module):
    """ReLU linear attention with heads of 32 channels (EfficientViT).

    The channels of `qkv` are head-major: q, k, v of head 0, then of head 1, and so on. With
    `multiscale`, heads made from a depthwise 5x5 of q, k, v stand beside the plain ones.
    """

    def __init__(self, channels: int, *, norm: Norm, multiscale: bool) -> None:
        super().__init__()
        if channels % HEAD_DIM:
            raise ValueError(f"attention width {channels} is not a multiple of {HEAD_DIM}")
        inner = 3 * channels
        self.qkv = nn.Conv2d(channels, inner, 1, bias=False)
        self.local = (
            nn.Sequential(
                nn.Conv2d(inner, inner, 5, padding=2, groups=inner, bias=False),
                nn.Conv2d(inner, inner, 1, groups=inner // HEAD_DIM, bias=False),
            )
            if multiscale
            else None
        )
        self.proj = nn.Conv2d(channels * (2 if multiscale else 1), channels, 1, bias=False)
        self.norm = build_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to the same shape, residual included."""
        q, k, v = split_heads(self.project(x))
        return self.apply_summary(x, q, summarize(k, v))

    def project(self, x: Tensor) -> Tensor:
        """q, k and v of x (b, c, h, w) as channels, head-major; with `multiscale`, twice as many.

        A pixel depends on its neighbors only with `multiscale`, and then up to 2 pixels away.
        """
        qkv = self.qkv(x)
        return qkv if self.local is None else torch.cat([qkv, self.local(qkv)], dim=1)

    def apply_summary(self, x: Tensor, q: Tensor, summary: Tensor) -> Tensor:
        """Add to x (b, c, h, w) what its queries (b, heads, e, n) read from a summary."""
        out = rearrange(
            read_summary(q, summary).to(widen(q).dtype),
            "b heads e (h w) -> b (heads e) h w",
            h=x.shape[-2],
        )
        return x + project_normalized(out, self.proj, self.norm)


def split_heads(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v (b, heads, e, n)."""
    qkv = rearrange(qkv, "b (heads three e) h w -> three b heads e (h w)", three=3, e=HEAD_DIM)
    q, k, v = qkv.unbind(0)
    return q, k, v


@torch.autocast("cpu", enabled=False)
@torch.autocast("cuda", enabled=False)
def summarize(k: Tensor, v: Tensor) -> Tensor:
    """All that queries need of keys and values (b, heads, e, n): (b, heads, e + 1, e), in fp32.

    It is a sum over positions, so that of an image is the sum of those of its parts.
    """
    v = F.pad(v.float(), (0, 0, 0, 1), value=1.0)  # a row of ones sums the keys
    return v @ F.relu(k.float()).mT


@torch.autocast("cpu", enabled=False)
@torch.autocast("cuda", enabled=False)
def read_summary(q: Tensor, summary: Tensor) -> Tensor:
    """Attention (b, heads, e, n) in fp32: the kernel relu(q)·relu(k), normalized over keys."""
    out = summary @ F.relu(q.float())
    values, total = out[..., :-1, :], out[..., -1:, :]
    if torch.compiler.is_compiling():
        # ONNX's optimizer takes x + 1e-15 for x, and 0 / 0 was NaN. At 0 this is the same.
        return values / total.clamp(min=ATTENTION_EPS)
    return values / (total + ATTENTION_EPS)


class GLUConv(nn.Module):
    """Gated inverted bottleneck: 1x1 to 8c, depthwise 3x3, value · silu(gate), 1x1 back to c.

    The norm behind it forgives any scale, and training makes use of that: the product reached 2e6
    with release 0.1.0's weights, so that float16 ends before it.
    """

    def __init__(self, channels: int, *, norm: Norm) -> None:
        super().__init__()
        inner = EXPANSION * channels
        self.expand = nn.Conv2d(channels, 2 * inner, 1)
        self.depthwise = nn.Conv2d(2 * inner, 2 * inner, 3, padding=1, groups=2 * inner)
        self.point = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = build_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to the same shape, residual included."""
        value, gate = widen(self.depthwise(F.silu(self.expand(x)))).chunk(2, dim=1)
        return x + project_normalized(value * F.silu(gate), self.point, self.norm)


class EViTBlock(nn.Module):
    """Linear attention for context, then a gated convolution for what is local."""

    def __init__(self, channels: int, *, norm: Norm, multiscale: bool) -> None:
        super().__init__()
        self.attention = LinearAttention(channels, norm=norm, multiscale=multiscale)
        self.glu = GLUConv(channels, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to the same shape."""
        return self.glu(self.attention(x))


def build_block(block: Block, channels: int, *, norm: Norm, act: Act) -> nn.Module:
    """One block of a stage."""
    match block:
        case Block.RES:
            return ResBlock(channels, norm=norm, act=act)
        case Block.EVIT:
            return EViTBlock(channels, norm=norm, multiscale=False)
        case Block.EVIT5:
            return EViTBlock(channels, norm=norm, multiscale=True)
        case _:
            assert_never(block)


def average_channels(x: Tensor, channels: int) -> Tensor:
    """Parameter-free shortcut down: the mean over adjacent groups of channels."""
    return reduce(x, "b (c group) h w -> b c h w", "mean", c=channels)


def duplicate_channels(x: Tensor, channels: int) -> Tensor:
    """Parameter-free shortcut up: each channel repeated, the copies adjacent."""
    return repeat(x, "b c h w -> b (c copies) h w", copies=channels // x.shape[1])


def unshuffle(x: Tensor) -> Tensor:
    """Move each 2x2 of pixels into channels: (b, c, 2h, 2w) to (b, 4c, h, w).

    The kernel keeps channels-last memory, which einops does not; but it forgets an empty batch.
    """
    if x.shape[0] == 0:  # not len(): an exported program would keep the example's batch
        return rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=2, q=2)
    return F.pixel_unshuffle(x, 2)


def shuffle(x: Tensor) -> Tensor:
    """Undo `unshuffle`: (b, 4c, h, w) to (b, c, 2h, 2w)."""
    return F.pixel_shuffle(x, 2)


def shuffles(by: Resample) -> bool:
    """Whether a factor of 2 is done by pixel-(un)shuffle; else by stride, or by repeating."""
    match by:
        case Resample.SHUFFLE:
            return True
        case Resample.STRIDE:
            return False
        case _:
            assert_never(by)


class Downsample(nn.Module):
    """Halve the grid: convolution plus, where `shortcut`, the channel-averaged unshuffle."""

    def __init__(
        self, in_channels: int, out_channels: int, *, by: Resample, shortcut: bool
    ) -> None:
        super().__init__()
        if shortcut and in_channels * 4 % out_channels:
            raise ValueError(f"cannot average 4 x {in_channels} channels down to {out_channels}")
        shuffled = shuffles(by)
        if shuffled and out_channels % 4:
            raise ValueError(f"{out_channels} channels are not a multiple of 4, as shuffle needs")
        self.shuffled, self.shortcut, self.out_channels = shuffled, shortcut, out_channels
        self.conv = nn.Conv2d(
            in_channels,
            out_channels // 4 if shuffled else out_channels,
            3,
            stride=1 if shuffled else 2,
            padding=1,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, 2h, 2w) to (b, c', h, w)."""
        y = self.conv(x)
        if self.shuffled:
            y = unshuffle(y)
        return y + average_channels(unshuffle(x), self.out_channels) if self.shortcut else y


class Upsample(nn.Module):
    """Double the grid: convolution plus, where `shortcut`, the channel-duplicating shuffle."""

    def __init__(
        self, in_channels: int, out_channels: int, *, by: Resample, shortcut: bool
    ) -> None:
        super().__init__()
        if shortcut and out_channels * 4 % in_channels:
            raise ValueError(f"cannot duplicate {in_channels} channels to 4 x {out_channels}")
        self.shuffled, self.shortcut, self.out_channels = shuffles(by), shortcut, out_channels
        scale = 4 if self.shuffled else 1
        self.conv = nn.Conv2d(in_channels, out_channels * scale, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c', 2h, 2w)."""
        if self.shuffled:
            y = shuffle(self.conv(x))
        else:
            y = self.conv(repeat(x, "b c h w -> b c (h p) (w q)", p=2, q=2))
        return y + shuffle(duplicate_channels(x, 4 * self.out_channels)) if self.shortcut else y

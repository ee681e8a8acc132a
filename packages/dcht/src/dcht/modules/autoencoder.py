"""DC-AE f32c32: the encoder and decoder the paper adopts (section 3.1 and 4.1).

Nothing here knows positions, so one set of weights works at every size that is a multiple of 32.
It does not quantize and does not normalize the latent: that is `dcht.tokenizer`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcht.config import CoderConfig, Resample
from dcht.modules.layers import (
    Downsample,
    Upsample,
    average_channels,
    build_block,
    build_norm,
    convolve_as,
    duplicate_channels,
)
from dcht.modules.wide import widen

IMAGE_CHANNELS = 3


def channels_last(x: Tensor) -> Tensor:
    """The same values with channels adjacent in memory, which every layer then keeps.

    Convolutions and norms over channels are faster so (`benchmarks/speed/bench_tokenizer.py`).
    """
    return x.contiguous(memory_format=torch.channels_last)


def _build_blocks(config: CoderConfig, stage: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            build_block(
                config.blocks[stage],
                config.widths[stage],
                norm=config.norms[stage],
                act=config.acts[stage],
            )
            for _ in range(config.depths[stage])
        )
    )


class Encoder(nn.Module):
    """Images (b, 3, 32h, 32w) to latents (b, c, h, w)."""

    def __init__(self, config: CoderConfig, *, resample: Resample, latent_channels: int) -> None:
        super().__init__()
        widths = config.widths
        first = 0 if config.depths[0] else 1
        self.stem = (
            nn.Conv2d(IMAGE_CHANNELS, widths[0], 3, padding=1)
            if first == 0
            else Downsample(IMAGE_CHANNELS, widths[1], by=resample, shortcut=False)
        )
        self.stages = nn.ModuleList()
        for stage in range(first, len(widths)):
            layers = _build_blocks(config, stage)
            if stage + 1 < len(widths):
                layers.append(
                    Downsample(widths[stage], widths[stage + 1], by=resample, shortcut=True)
                )
            self.stages.append(layers)
        self.output = nn.Conv2d(widths[-1], latent_channels, 3, padding=1)
        self.latent_channels = latent_channels

    def forward(self, images: Tensor) -> Tensor:
        """Encode images in [-1, 1]."""
        x = channels_last(images)
        for layer in self.layers():
            x = layer(x)  # the first: (b, c_1, 16h, 16w) in the in/mix layout
        return self.leave(x)

    def layers(self) -> list[nn.Module]:
        """All layers but the last, in running order."""
        return [self.stem, *(layer for stage in self.stages for layer in stage)]  # type: ignore[union-attr]

    def leave(self, x: Tensor) -> Tensor:
        """The last layer: features (b, c_5, h, w) to latents (b, c, h, w)."""
        z = convolve_as(self.output, widen(x))
        return (z + average_channels(x, self.latent_channels)).contiguous()


class Decoder(nn.Module):
    """Latents (b, c, h, w) to images (b, 3, 32h, 32w)."""

    def __init__(self, config: CoderConfig, *, resample: Resample, latent_channels: int) -> None:
        super().__init__()
        widths = config.widths
        first = 0 if config.depths[0] else 1
        self.input = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        self.input_width = widths[-1]
        self.stages = nn.ModuleList()
        for stage in reversed(range(first, len(widths))):
            layers = _build_blocks(config, stage)
            if stage + 1 < len(widths):
                layers.insert(
                    0, Upsample(widths[stage + 1], widths[stage], by=resample, shortcut=True)
                )
            self.stages.append(layers)
        self.norm = build_norm(config.output_norm, widths[first])
        self.act = nn.ReLU()
        self.output = (
            nn.Conv2d(widths[0], IMAGE_CHANNELS, 3, padding=1)
            if first == 0
            else Upsample(widths[1], IMAGE_CHANNELS, by=resample, shortcut=False)
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Decode to images, about [-1, 1]: the last layer is linear and may overshoot."""
        x = self.enter(latent)
        for layer in self.layers():
            x = layer(x)
        return x.contiguous()  # (b, 3, 32h, 32w)

    def enter(self, latent: Tensor) -> Tensor:
        """The first layer: latents (b, c, h, w) to features (b, c_5, h, w)."""
        latent = channels_last(latent)
        return self.input(latent) + duplicate_channels(latent, self.input_width)

    def trace(self, latent: Tensor) -> tuple[list[Tensor], Tensor]:
        """Decode, and give the features (b, c_i, h_i, w_i) after each stage, the coarsest first."""
        x, features = self.enter(latent), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features, self.output(self.act(self.norm(x))).contiguous()

    @property
    def last_weight(self) -> Tensor:
        """The weights of the last convolution, which all losses reach first."""
        return self.output.conv.weight if isinstance(self.output, Upsample) else self.output.weight

    def layers(self) -> list[nn.Module]:
        """All layers but the first, in running order."""
        blocks = [layer for stage in self.stages for layer in stage]  # type: ignore[union-attr]
        return [*blocks, self.norm, self.act, self.output]

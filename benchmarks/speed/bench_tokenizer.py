"""Encoding and decoding: our autoencoder beside diffusers' AutoencoderDC with the same weights.

The layout is DC-AE's in-1.0; the default run divides its widths by 4 so that it takes seconds.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

from dcht import PRESETS, Tokenizer, TokenizerConfig
from dcht.config import CoderConfig
from dcht.convert.keys import Family, convert_tensors

BLOCKS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
Versus = Callable[[Callable[[], object], Callable[[], object]], None]
WIDTHS = [pytest.param(4, id="quarter"), pytest.param(1, id="full", marks=pytest.mark.slow)]


def narrowed(factor: int) -> TokenizerConfig:
    def coder(config: CoderConfig) -> CoderConfig:
        return replace(config, widths=[width // factor for width in config.widths])

    config = PRESETS["dc_ae_mix"]
    return replace(config, encoder=coder(config.encoder), decoder=coder(config.decoder))


def diffusers_model(config: TokenizerConfig) -> AutoencoderDC:
    model = AutoencoderDC(
        latent_channels=config.latent_channels,
        encoder_block_types=BLOCKS,  # type: ignore[arg-type]
        decoder_block_types=BLOCKS,  # type: ignore[arg-type]
        encoder_block_out_channels=tuple(config.encoder.widths),
        decoder_block_out_channels=tuple(config.decoder.widths),
        encoder_layers_per_block=tuple(config.encoder.depths),
        decoder_layers_per_block=tuple(config.decoder.depths),
        encoder_qkv_multiscales=((),) * 6,
        decoder_qkv_multiscales=((),) * 6,
        downsample_block_type="pixel_unshuffle",
        upsample_block_type="pixel_shuffle",
        decoder_norm_types=["batch_norm"] * 3 + ["rms_norm"] * 3,  # type: ignore[arg-type]
        decoder_act_fns=["relu"] * 3 + ["silu"] * 3,  # type: ignore[arg-type]
    )
    return model.eval()


def our_model(config: TokenizerConfig, theirs: AutoencoderDC) -> Tokenizer:
    with torch.device("meta"):
        ours = Tokenizer(config)
    tensors = convert_tensors(theirs.state_dict(), config, Family.DIFFUSERS)
    ours.load_state_dict(tensors, assign=True)
    return ours.eval()


@pytest.mark.parametrize("direction", ["encode", "decode"])
@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("width", WIDTHS)
def bench_autoencoder(versus: Versus, width: int, size: int, direction: str) -> None:
    """One image, one way."""
    config = narrowed(width)
    theirs = diffusers_model(config)
    ours = our_model(config, theirs)
    images = (1, 3, size, size)
    latents = (1, config.latent_channels, size // 32, size // 32)
    seeded = torch.Generator().manual_seed(0)
    x = torch.rand(images if direction == "encode" else latents, generator=seeded) * 2 - 1
    with torch.inference_mode():
        versus(lambda: getattr(ours, direction)(x), lambda: getattr(theirs, direction)(x))


@pytest.mark.parametrize("direction", ["encode", "decode"])
def bench_tiles(versus: Versus, direction: str) -> None:
    """What margins cost: a 1024 px image by tiles of 512, against the whole."""
    tokenizer = Tokenizer.from_pretrained()
    seeded = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 1024, 1024, generator=seeded) * 2 - 1
    with torch.inference_mode():
        x = images if direction == "encode" else tokenizer.encode(images)
        tiled = getattr(tokenizer, f"{direction}_tiled")
        versus(lambda: tiled(x, tile=512), lambda: getattr(tokenizer, direction)(x))

"""Our autoencoder against diffusers' AutoencoderDC, and the paper's parameter counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from dcht import PRESETS, Tokenizer, TokenizerConfig
from dcht.config import Act, CoderConfig, Norm
from dcht.convert.keys import Family, convert_tensors
from dcht.modules.layers import ResBlock

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

KINDS = {"mix": "dc_ae_mix", "sana": "dc_ae_sana"}


def narrow(name: str, factor: int) -> TokenizerConfig:
    """The published layout with every width divided, fewer blocks a stage and the same kinds."""

    def coder(config: CoderConfig) -> CoderConfig:
        return replace(
            config,
            widths=[width // factor for width in config.widths],
            depths=[min(depth, 2) for depth in config.depths],
        )

    config = PRESETS[name]
    return replace(config, encoder=coder(config.encoder), decoder=coder(config.decoder))


def peer(config: TokenizerConfig, kind: str) -> AutoencoderDC:
    """diffusers' class with the same layout, as its conversion script sets it up."""
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

    scales = ((), (), (), (5,), (5,), (5,)) if kind == "sana" else ((),) * 6
    mix = kind == "mix"
    settings = {
        "latent_channels": config.latent_channels,
        "encoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
        "decoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
        "encoder_block_out_channels": tuple(config.encoder.widths),
        "decoder_block_out_channels": tuple(config.decoder.widths),
        "encoder_layers_per_block": tuple(config.encoder.depths),
        "decoder_layers_per_block": tuple(config.decoder.depths),
        "encoder_qkv_multiscales": scales,
        "decoder_qkv_multiscales": scales,
        "downsample_block_type": "pixel_unshuffle" if mix else "conv",
        "upsample_block_type": "pixel_shuffle" if mix else "interpolate",
        "decoder_norm_types": ["batch_norm"] * 3 + ["rms_norm"] * 3 if mix else "rms_norm",
        "decoder_act_fns": ["relu"] * 3 + ["silu"] * 3 if mix else "silu",
    }
    model = AutoencoderDC.from_config(settings)
    assert isinstance(model, AutoencoderDC)
    return model.eval()


def shake(model: torch.nn.Module) -> None:
    """Random norms and running statistics too, so that no 1 or 0 hides a mistake."""
    generator = torch.Generator().manual_seed(1)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            low = 0.5 if name.endswith(("weight", "running_var")) else -0.2
            value.copy_(torch.rand(value.shape, generator=generator) * 0.4 + low)


def assert_equal_to_peer(config: TokenizerConfig, kind: str, sizes: list[tuple[int, int]]) -> None:
    theirs = peer(config, kind)
    shake(theirs)
    with torch.device("meta"):
        ours = Tokenizer(config)
    tensors = convert_tensors(theirs.state_dict(), config, Family.DIFFUSERS)
    ours.load_state_dict(tensors, strict=True, assign=True)
    ours.eval()
    for height, width in sizes:
        images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2)) * 2 - 1
        with torch.inference_mode():
            z = theirs.encode(images, return_dict=False)[0]
            assert (ours.encode(images) - z).abs().max() <= 1e-4
            assert (ours.decode(z) - theirs.decode(z, return_dict=False)[0]).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_equals_diffusers(kind: str) -> None:
    config = narrow(KINDS[kind], factor=8)
    # 96 x 160 has coarse maps of at most 32 positions: the quadratic form of the attention.
    assert_equal_to_peer(config, kind, [(256, 256), (96, 160)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_equals_diffusers_at_full_size(kind: str) -> None:
    assert_equal_to_peer(PRESETS[KINDS[kind]], kind, [(256, 256), (192, 320)])


def test_batch_norm_is_folded_in_eval_mode_alone() -> None:
    block = ResBlock(8, norm=Norm.BATCH, act=Act.RELU)
    shake(block)
    x = torch.randn(2, 8, 6, 5, generator=torch.Generator().manual_seed(0))
    assert isinstance(block.norm, torch.nn.BatchNorm2d)
    for training in (False, True):
        block.train(training)
        apart = x + block.norm(block.conv2(torch.relu(block.conv1(x))))
        assert (block(x) - apart).abs().max() <= 1e-5
    before = block.norm.running_mean.clone()  # type: ignore[union-attr]
    block(x)
    assert not torch.equal(block.norm.running_mean, before)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "millions"), [("dc_ae_mix", 323.36), ("dc_ae_sana", 312.25), ("f32c32", 323.88)]
)
def test_parameter_counts(name: str, millions: float) -> None:
    with torch.device("meta"):
        tokenizer = Tokenizer(PRESETS[name])
    assert sum(p.numel() for p in tokenizer.parameters()) / 1e6 == pytest.approx(millions, abs=5e-3)

"""The published inference release (`mit-han-lab/dc-ar-512`): its names and settings, as ours.

Facts about a format, no code of it. Its weights are non-commercial: read, never redistributed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from dcar.config import DCARConfig, GeneratorConfig, HeadConfig, TextConfig
from dcar.sampling_config import SamplingConfig, with_preset
from dcht.errors import CheckpointError

RECOMPUTED = {"pos_embed"}
"""Tensors of the release that follow from the config."""

_KEYS = {
    r"x_embedder": "generator.embedding",
    r"y_embedder\.y_embedding": "generator.null_text",
    r"y_embedder\.y_proj\.fc([12])": r"generator.caption.fc\1",
    r"blocks\.(\d+)\.attn\.(qkv|q_norm|k_norm)": r"generator.blocks.\1.attention.\2",
    r"blocks\.(\d+)\.attn\.proj": r"generator.blocks.\1.attention.out",
    r"blocks\.(\d+)\.cross_attn\.(q|kv)_linear": r"generator.blocks.\1.cross_attention.\2",
    r"blocks\.(\d+)\.cross_attn\.proj": r"generator.blocks.\1.cross_attention.out",
    r"blocks\.(\d+)\.mlp\.fc([12])": r"generator.blocks.\1.mlp.fc\2",
    r"final_layer\.linear": "generator.to_logits",
    r"diffloss\.net\.time_embed\.mlp\.0": "head.time1",
    r"diffloss\.net\.time_embed\.mlp\.2": "head.time2",
    r"diffloss\.net\.cond_embed": "head.condition",
    r"diffloss\.net\.input_proj": "head.inputs",
    r"diffloss\.net\.res_blocks\.(\d+)\.in_ln": r"head.blocks.\1.norm",
    r"diffloss\.net\.res_blocks\.(\d+)\.mlp\.0": r"head.blocks.\1.fc1",
    r"diffloss\.net\.res_blocks\.(\d+)\.mlp\.2": r"head.blocks.\1.fc2",
    r"diffloss\.net\.res_blocks\.(\d+)\.adaLN_modulation\.1": r"head.blocks.\1.modulation",
    r"diffloss\.net\.final_layer\.adaLN_modulation\.1": "head.modulation",
    r"diffloss\.net\.final_layer\.linear": "head.outputs",
}
"""Their layers (a regular expression each) and ours; layouts of all tensors are the same."""


def rename(key: str) -> str:
    """Our name of a tensor of the release.

    Raises:
        CheckpointError: there is no such tensor in the release.
    """
    layer, suffix = key, ""
    if key.endswith((".weight", ".bias")):
        layer, _, suffix = key.rpartition(".")
        suffix = f".{suffix}"
    for pattern, ours in _KEYS.items():
        if match := re.fullmatch(pattern, layer):
            return match.expand(ours) + suffix
    raise CheckpointError(f"{key} is no tensor of the DC-AR release")


def renamed_keys(keys: Iterable[str]) -> dict[str, str]:
    """Their names and ours, without what is recomputed.

    Raises:
        CheckpointError: a name that the release does not have.
    """
    return {key: rename(key) for key in keys if key not in RECOMPUTED}


def convert_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of our `DCAR` from that of the release.

    Raises:
        CheckpointError: a name that the release does not have.
    """
    return {ours: tensors[theirs] for theirs, ours in renamed_keys(tensors).items()}


def convert_config(settings: Mapping[str, Any]) -> DCARConfig:
    """Our config from the `model` section of the release's.

    Its dropout values are not forwarded to the modules there, and matter in training only.

    Raises:
        CheckpointError: a setting is missing.
    """
    try:
        network, tokenizer = settings["generator"], settings["vq_model"]
        diffusion = network["diffusion"]
        width = network["hidden_size"]
        extent = network.get("base_size", 16) / network.get("pe_interpolation", 1.0)
        return DCARConfig(
            generator=GeneratorConfig(
                codebook_size=tokenizer["codebook_size"],
                depth=network["num_hidden_layers"],
                width=width,
                num_heads=network["num_attention_heads"],
                mlp_dim=network["intermediate_size"],
                qk_norm=network["qk_norm"],
                text_dim=settings["context_dim"],
                text_length=settings["text_token_length"],
                position_extent=extent,
            ),
            head=HeadConfig(
                latent_channels=tokenizer["token_size"],
                condition_dim=width,
                depth=diffusion["depth"],
                width=diffusion["width"],
                batch_mul=diffusion["batch_mul"],
                residual_std=diffusion["vae_scale"],
                clip=1.0,
            ),
            text=TextConfig(name=settings["text_model"], sees_mask=False),
        )
    except KeyError as error:
        raise CheckpointError(f"the release's config has no setting {error}") from None


def convert_sampling(settings: Mapping[str, Any] | None) -> SamplingConfig:
    """Preset `release`, with the numbers of the `model` section of the release's config, if any.

    Raises:
        CheckpointError: a setting is missing.
    """
    sampling = with_preset(SamplingConfig(), "release")
    if settings is None:
        return sampling
    network = settings["generator"]
    try:
        return replace(
            sampling,
            num_steps=network["num_steps"],
            cfg_scale=network["guidance_scale"],
            temperature=network["randomize_temperature"],
            num_diffusion_steps=int(network["diffusion"]["num_sampling_steps"]),
        )
    except KeyError as error:
        raise CheckpointError(f"the release's config has no setting {error}") from None


def convert_side(settings: Mapping[str, Any]) -> int:
    """The pixels a side of the square images that the release was trained on.

    Raises:
        CheckpointError: a setting is missing.
    """
    try:
        return 32 * math.isqrt(settings["generator"]["image_seq_len"])
    except KeyError as error:
        raise CheckpointError(f"the release's config has no setting {error}") from None

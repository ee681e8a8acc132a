"""A tokenizer as diffusers' `AutoencoderDC`: the work of `dcht export --to diffusers`.

diffusers is not needed to write it. Its encoder has RMS norms and SiLU alone, its decoder BatchNorm
too, and neither has a codebook: latents are the encoder's, of any length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from einops import rearrange
from safetensors.torch import save
from torch import Tensor

from dcht.checkpoint import CONFIG
from dcht.config import Act, Block, CoderConfig, Norm, Resample, TokenizerConfig
from dcht.convert.keys import Family, their_key
from dcht.convert.published import RECORD as CONVERSION
from dcht.convert.sources import DIFFUSERS_WEIGHTS
from dcht.errors import UsageError
from dcht.files import begin, read_json, write_atomic
from dcht.hub import locate
from dcht.modules.layers import HEAD_DIM
from dcht.tokenizer import BUNDLED, Tokenizer

RECORD = "export.json"
SINCE = "0.32.0"
"""The first diffusers with an `AutoencoderDC`."""
NORMS = {Norm.RMS: "rms_norm", Norm.BATCH: "batch_norm"}
BLOCKS = {Block.RES: "ResBlock", Block.EVIT: "EfficientViTBlock", Block.EVIT5: "EfficientViTBlock"}


class Exported(NamedTuple):
    """What was written."""

    files: list[str]
    tokenizer: str | None
    scaling_factor: float
    factor: str
    """What the config says of `scaling_factor`, in words."""


def write_autoencoder(name: str | None, out: Path, *, force: bool = False) -> Exported:
    """Write the tokenizer that `name` is of as the folder of an `AutoencoderDC`.

    Finished work of the same tokenizer is left alone. `scaling_factor` is the one of the DC-AE that
    `dcht convert` read, where it said one.

    Raises:
        UsageError: the tokenizer has what diffusers' class has not, or `out` holds something else.
        CheckpointError: the tokenizer cannot be loaded.
    """
    tokenizer = Tokenizer.from_pretrained(name)
    scale = _scaling_factor(locate(name, bundled=BUNDLED))
    config = autoencoder_config(tokenizer.config, 1.0 if scale is None else scale)
    made_of = {"tokenizer": tokenizer.sha256, "to": "diffusers", "scaling_factor": scale}
    files = [CONFIG, DIFFUSERS_WEIGHTS]
    begin(out, RECORD, made_of, files=files, force=force)
    if not all((out / file).exists() for file in files):
        tensors = autoencoder_tensors(tokenizer)
        write_atomic(out / CONFIG, json.dumps(config, indent=2).encode() + b"\n")
        write_atomic(out / DIFFUSERS_WEIGHTS, save(tensors, metadata={"format": "pt"}))
    known = "its source named none" if scale is None else "as its source has it"
    factor = f"scaling_factor {config['scaling_factor']:g} ({known})"
    return Exported(files, tokenizer.sha256, config["scaling_factor"], factor)


def _scaling_factor(folder: Path) -> float | None:
    try:
        found = read_json(folder / CONVERSION).get("scaling_factor")
    except FileNotFoundError:
        return None
    return float(found) if isinstance(found, (int, float)) else None


def autoencoder_config(config: TokenizerConfig, scaling_factor: float) -> dict[str, Any]:
    """The `config.json` of an `AutoencoderDC`.

    Raises:
        UsageError: naming what that class cannot be.
    """
    if config.codebook_size is not None:
        raise UsageError(
            f"this tokenizer has {config.codebook_size:,} codes, and its decoder wants latents of "
            "unit length; diffusers' AutoencoderDC has neither. What can be exported is a "
            "tokenizer without a codebook, as dcht convert makes of a DC-AE"
        )
    encoder, decoder = config.encoder, config.decoder
    _require("encoder", encoder, norms=[Norm.RMS], acts=[Act.SILU])
    _require("decoder", decoder, norms=list(NORMS), acts=list(Act))
    if decoder.output_norm is not Norm.RMS:
        raise UsageError(
            f"its decoder ends with {decoder.output_norm.value}, where diffusers' AutoencoderDC "
            "has rms2d"
        )
    shuffle = config.resample is Resample.SHUFFLE
    return {
        "_class_name": "AutoencoderDC",
        "_diffusers_version": SINCE,
        "in_channels": 3,
        "latent_channels": config.latent_channels,
        "attention_head_dim": HEAD_DIM,
        "encoder_block_types": [BLOCKS[block] for block in encoder.blocks],
        "decoder_block_types": [BLOCKS[block] for block in decoder.blocks],
        "encoder_block_out_channels": encoder.widths,
        "decoder_block_out_channels": decoder.widths,
        "encoder_layers_per_block": encoder.depths,
        "decoder_layers_per_block": decoder.depths,
        "encoder_qkv_multiscales": [_scales(block) for block in encoder.blocks],
        "decoder_qkv_multiscales": [_scales(block) for block in decoder.blocks],
        "upsample_block_type": "pixel_shuffle" if shuffle else "interpolate",
        "downsample_block_type": "pixel_unshuffle" if shuffle else "conv",
        # A stage without blocks has no norm, whatever is said of it.
        "decoder_norm_types": [NORMS.get(norm, "rms_norm") for norm in decoder.norms],
        "decoder_act_fns": [act.value for act in decoder.acts],
        "encoder_out_shortcut": True,
        "decoder_in_shortcut": True,
        "decoder_conv_act_fn": "relu",
        "scaling_factor": scaling_factor,
    }


def _scales(block: Block) -> list[int]:
    return [5] if block is Block.EVIT5 else []


def _require(side: str, coder: CoderConfig, *, norms: list[Norm], acts: list[Act]) -> None:
    for stage, depth in enumerate(coder.depths):
        norm, act, block = coder.norms[stage], coder.acts[stage], coder.blocks[stage]
        allowed = norms if block is Block.RES else [Norm.RMS]
        if depth and norm not in allowed:
            raise UsageError(
                f"its {side} has {norm.value} in stage {stage} ({block.value}), where diffusers' "
                f"AutoencoderDC has {' or '.join(entry.value for entry in allowed)}"
            )
        if depth and block is Block.RES and act not in acts:
            raise UsageError(
                f"its {side} has {act.value} in stage {stage}, where diffusers' AutoencoderDC has "
                f"{' or '.join(entry.value for entry in acts)}"
            )


def autoencoder_tensors(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The state dict of the `AutoencoderDC` that a tokenizer is: its tensors by their names."""
    tensors = {}
    for ours, value in tokenizer.state_dict().items():
        theirs = their_key(ours, tokenizer.config, Family.DIFFUSERS)
        if ".attn.to_" in theirs and "multiscale" not in theirs:
            value = rearrange(value, "o i 1 1 -> o i")  # linear layers there
        if "{q,k,v}" in theirs:
            for part, third in zip("qkv", value.chunk(3), strict=True):
                tensors[theirs.replace("{q,k,v}", part)] = third.contiguous()
        else:
            tensors[theirs] = value.contiguous()
    return tensors

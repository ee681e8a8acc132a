"""Key families of published autoencoders, and how their tensors become ours.

`EFFICIENTVIT` is the original code's family, which the DC-HT release keeps too; `DIFFUSERS` is that
of `AutoencoderDC`. Both count stages fine to coarse; our decoder counts in running order.
"""

from __future__ import annotations

import re
from enum import Enum

import torch
from einops import rearrange
from torch import Tensor

from dcht.checkpoint import build_on_meta
from dcht.config import Resample, TokenizerConfig
from dcht.errors import CheckpointError
from dcht.tokenizer import Tokenizer


class Family(Enum):
    """Who named the keys."""

    EFFICIENTVIT = "efficientvit"
    DIFFUSERS = "diffusers"


# Inside a stage: the end of our key (after the layer's number) and the end of theirs.
_LAYER = {
    Family.EFFICIENTVIT: {
        "conv1": "main.conv1.conv",
        "conv2": "main.conv2.conv",
        "norm": "main.conv2.norm",
        "attention.qkv": "context_module.main.qkv.conv",
        "attention.local.0": "context_module.main.aggreg.0.0",
        "attention.local.1": "context_module.main.aggreg.0.1",
        "attention.proj": "context_module.main.proj.conv",
        "attention.norm": "context_module.main.proj.norm",
        "glu.expand": "local_module.main.inverted_conv.conv",
        "glu.depthwise": "local_module.main.depth_conv.conv",
        "glu.point": "local_module.main.point_conv.conv",
        "glu.norm": "local_module.main.point_conv.norm",
        "conv": "main.conv.conv",
    },
    Family.DIFFUSERS: {
        "conv1": "conv1",
        "conv2": "conv2",
        "norm": "norm",
        "attention.qkv": "attn.to_{q,k,v}",
        "attention.local.0": "attn.to_qkv_multiscale.0.proj_in",
        "attention.local.1": "attn.to_qkv_multiscale.0.proj_out",
        "attention.proj": "attn.to_out",
        "attention.norm": "attn.norm_out",
        "glu.expand": "conv_out.conv_inverted",
        "glu.depthwise": "conv_out.conv_depth",
        "glu.point": "conv_out.conv_point",
        "glu.norm": "conv_out.norm",
        "conv": "conv",
    },
}
# Outside the stages.
ENDS = {
    Family.EFFICIENTVIT: {
        "encoder.stem.conv": "encoder.project_in.conv.conv",
        "encoder.stem": "encoder.project_in.conv",
        "encoder.output": "encoder.project_out.main.op_list.0.conv",
        "decoder.input": "decoder.project_in.main.conv",
        "decoder.norm": "decoder.project_out.op_list.0",
        "decoder.output.conv": "decoder.project_out.op_list.2.conv.conv",
        "decoder.output": "decoder.project_out.op_list.2.conv",
        "quantizer": "quantize.embedding",
    },
    Family.DIFFUSERS: {
        "encoder.stem.conv": "encoder.conv_in.conv",
        "encoder.stem": "encoder.conv_in",
        "encoder.output": "encoder.conv_out",
        "decoder.input": "decoder.conv_in",
        "decoder.norm": "decoder.norm_out",
        "decoder.output.conv": "decoder.conv_out.conv",
        "decoder.output": "decoder.conv_out",
    },
}
STAGES = {
    (Family.EFFICIENTVIT, "encoder"): "encoder.stages.{stage}.op_list.{layer}",
    (Family.EFFICIENTVIT, "decoder"): "decoder.stages.{stage}.op_list.{layer}",
    (Family.DIFFUSERS, "encoder"): "encoder.down_blocks.{stage}.{layer}",
    (Family.DIFFUSERS, "decoder"): "decoder.up_blocks.{stage}.{layer}",
}
_OUR_STAGE = re.compile(r"(encoder|decoder)\.stages\.(\d+)\.(\d+)\.(.+)")


def their_key(ours: str, config: TokenizerConfig, family: Family) -> str:
    """The family's name for one of our keys; `{q,k,v}` in it stands for three tensors."""
    if ours == "quantizer.codebook":
        return f"{ENDS[family]['quantizer']}.weight"
    path, _, leaf = ours.rpartition(".")
    match = _OUR_STAGE.fullmatch(path)
    if match is None:
        return f"{ENDS[family][path]}.{leaf}"
    side, position, layer, name = match.groups()
    depths = (config.encoder if side == "encoder" else config.decoder).depths
    first = 0 if depths[0] else 1
    stage = first + int(position) if side == "encoder" else len(depths) - 1 - int(position)
    theirs = _LAYER[family][name]
    strided = side == "encoder" and config.resample is Resample.STRIDE
    if name == "conv" and strided and family is Family.EFFICIENTVIT:
        theirs = "main.conv"
    return f"{STAGES[family, side].format(stage=stage, layer=layer)}.{theirs}.{leaf}"


def convert_tensors(
    tensors: dict[str, Tensor], config: TokenizerConfig, family: Family
) -> dict[str, Tensor]:
    """Rename and reshape a family's tensors into the state dict of `Tokenizer(config)`.

    Floating tensors become fp32.

    Raises:
        CheckpointError: naming a key that is missing, of another shape, or without a place in
            this layout.
    """
    wanted = build_on_meta(lambda: Tokenizer(config), "config.json").state_dict()
    left = dict(tensors)

    def take(key: str) -> Tensor:
        if key not in tensors:
            # A key that was renamed is one missing and one too many: name both.
            known = {their_key(ours, config, family) for ours in wanted}
            parts = {key.replace("{q,k,v}", part) for key in known for part in "qkv"}
            others = sorted(tensors.keys() - parts)
            raise CheckpointError(
                f"key {key} is missing for this layout ({family.value} family)"
                + (f"; {others[0]} is there instead, perhaps" if others else "")
            )
        return left.pop(key)

    converted = {}
    for ours, like in wanted.items():
        theirs = their_key(ours, config, family)
        if "{q,k,v}" in theirs:
            # Plain thirds of the head-major tensor: their "to_q" does not hold the queries.
            value = torch.cat([take(theirs.replace("{q,k,v}", part)) for part in "qkv"])
        else:
            value = take(theirs)
        if value.ndim == 2 and like.ndim == 4:
            value = rearrange(value, "o i -> o i 1 1")
        if value.shape != like.shape:
            raise CheckpointError(
                f"key {theirs} has shape {tuple(value.shape)}; this layout needs "
                f"{tuple(like.shape)}"
            )
        converted[ours] = value.float() if value.is_floating_point() else value
    if left:
        raise CheckpointError(
            f"{len(left)} keys have no place in this layout ({family.value} family), "
            f"for example {min(left)}"
        )
    return converted

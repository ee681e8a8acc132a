"""The benchmark's own detector weights, OpenMMLab's, in transformers' Mask2Former.

The `.pth` of mmdet 2.x (`mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco`) holds the same network
under other names. Three things are more than names: queries, keys and values of an attention are
one matrix there; its patch merging orders a patch's numbers by channel, row, column, where
transformers has column, row, channel; and what transformers' Swin has but never uses is missing.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from dcar_eval.geneval.detector import UNUSED, Detector
from dcar_eval.geneval.prompts import CLASSES
from dcht.checkpoint import load_strict
from dcht.errors import CheckpointError
from dcht.files import file_sha256

PUBLISHED_SHA256 = "743b7d99"
"""How the published file's hash begins; its name ends in these digits."""
SUFFIX = ".pth"

ENCODER, PIXELS = "model.pixel_level_module.encoder.", "model.pixel_level_module.decoder."
QUERIES = "model.transformer_module."
FFN = {"ffns.0.layers.0.0": "fc1", "ffns.0.layers.1": "fc2"}
CONVOLUTION = {"conv": "0", "gn": "1"}
QKV = ".QKV_proj."
"""Stands for `q_proj`, `k_proj` and `v_proj`, which one matrix becomes."""
NAMES: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.",
        ENCODER + r"swin.encoder.layers.\1.blocks.\2.",
        {
            "norm1": "layernorm_before",
            "norm2": "layernorm_after",
            "attn.w_msa.relative_position_bias_table": (
                "attention.relative_position_bias.relative_position_bias_table"
            ),
            "attn.w_msa.qkv.": f"attention{QKV}",
            "attn.w_msa.proj": "attention.o_proj",
            "ffn.layers.0.0": "mlp.fc1",
            "ffn.layers.1": "mlp.fc2",
        },
    ),
    (
        r"backbone\.stages\.(\d+)\.downsample\.",
        ENCODER + r"swin.encoder.layers.\1.downsample.",
        {"norm": "norm", "reduction": "reduction"},
    ),
    (
        r"backbone\.",
        ENCODER,
        {
            "patch_embed.projection": "swin.embeddings.patch_embeddings.projection",
            "patch_embed.norm": "swin.embeddings.norm",
            **{f"norm{stage}": f"hidden_states_norms.stage{stage + 1}" for stage in range(4)},
        },
    ),
    (
        r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.",
        PIXELS + r"encoder.layers.\1.",
        {
            "attentions.0": "self_attn",
            "norms.0": "self_attn_layer_norm",
            "norms.1": "final_layer_norm",
            **FFN,
        },
    ),
    (
        r"panoptic_head\.pixel_decoder\.input_convs\.(\d+)\.",
        PIXELS + r"input_projections.\1.",
        CONVOLUTION,
    ),
    (r"panoptic_head\.pixel_decoder\.lateral_convs\.0\.", PIXELS + "adapter_1.", CONVOLUTION),
    (r"panoptic_head\.pixel_decoder\.output_convs\.0\.", PIXELS + "layer_1.", CONVOLUTION),
    (
        r"panoptic_head\.pixel_decoder\.",
        PIXELS,
        {"level_encoding.weight": "level_embed", "mask_feature": "mask_projection"},
    ),
    (
        r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.",
        QUERIES + r"decoder.layers.\1.",
        {
            "attentions.0.attn": "cross_attn",
            "attentions.1.attn.in_proj_": f"self_attn{QKV}",
            "attentions.1.attn.out_proj": "self_attn.out_proj",
            "norms.0": "cross_attn_layer_norm",
            "norms.1": "self_attn_layer_norm",
            "norms.2": "final_layer_norm",
            **FFN,
        },
    ),
    (
        r"panoptic_head\.",
        "",
        {
            "transformer_decoder.post_norm": QUERIES + "decoder.layernorm",
            "query_embed": QUERIES + "queries_embedder",
            "query_feat": QUERIES + "queries_features",
            "level_embed": QUERIES + "level_embed",
            "cls_embed": "class_predictor",
            **{
                f"mask_embed.{2 * i}": f"{QUERIES}decoder.mask_predictor.mask_embedder.{i}.0"
                for i in range(3)
            },
        },
    ),
)
"""Beginning of a name in mmdet, the same in transformers, and what may follow it in both."""
COMPUTED = "attn.w_msa.relative_position_index"
"""A table that mmdet stores and transformers makes."""


def swin_small() -> Mask2FormerConfig:
    """The network of the published file."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = {"model_type": "swin", "depths": [2, 2, 18, 2], "out_features": stages}
    return Mask2FormerConfig.from_dict({"backbone_config": backbone, "num_labels": len(CLASSES)})


def convert_mmdet(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mask2Former's weights under transformers' names; a name that is not known stays."""
    converted: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.endswith(COMPUTED):
            continue
        new = _rename(key)
        if ".downsample." in new:
            value = rearrange(value, "... (c row column) -> ... (column row c)", row=2, column=2)
        if QKV in new:
            parts = rearrange(value, "(part d) ... -> part d ...", part=3)
            for letter, part in zip("qkv", parts, strict=True):
                converted[new.replace(QKV, f".{letter}_proj.")] = part
        else:
            converted[new] = value
    return converted


def _rename(key: str) -> str:
    for beginning, prefix, names in NAMES:
        if (match := re.match(beginning, key)) is None:
            continue
        rest = key[match.end() :]
        for old, new in names.items():
            if rest.startswith(old):
                return match.expand(prefix) + new + rest[len(old) :]
    return key


def load_mmdet(path: Path, config: Mask2FormerConfig | None = None) -> Detector:
    """Read an mmdet 2.x checkpoint of Mask2Former.

    Args:
        path: the `.pth`. It is a pickle, of which nothing but tensors and plain values is read.
        config: the network's sizes; None: those of the published file.

    Raises:
        CheckpointError: it is not there, holds other things, or its tensors do not fit.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        tensors = content["state_dict"]
    except FileNotFoundError:
        raise CheckpointError(f"detector {path} is not there") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"detector {path} is no checkpoint of mmdet 2.x: {reason}") from None
    model = Mask2FormerForUniversalSegmentation(config or swin_small())
    own = model.state_dict()
    unused = {key: own[key] for key in UNUSED}
    load_strict(model, convert_mmdet(tensors) | unused, str(path))
    return Detector(model, label="mmdet-weights", name=path.name, sha256=file_sha256(path))

"""Small random networks of the real classes: everything of GenEval can be tried but the numbers."""

from __future__ import annotations

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
)

from dcar_eval.geneval.colors import ColorClassifier
from dcar_eval.geneval.detector import Detector
from dcar_eval.geneval.networks import SMOKE, Judges
from dcar_eval.geneval.prompts import CLASSES

NAME = "random weights"


def random_networks() -> Judges:
    """Both at a small size with random weights: for trying everything but the numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Mask2FormerForUniversalSegmentation(small_detector())
        # Sure of itself: with the usual small weights no score would pass a threshold.
        torch.nn.init.normal_(model.class_predictor.weight, std=2)
        clip = CLIPModel(_small_clip())
    detector = Detector(model, label=SMOKE, name=NAME, sha256=None)
    return Judges(detector, ColorClassifier(clip, _letters(), name=NAME, sha256=None))


def small_detector() -> Mask2FormerConfig:
    """A small Mask2Former with COCO's classes."""
    return Mask2FormerConfig.from_dict(
        {
            "backbone_config": {
                "model_type": "swin",
                "embed_dim": 8,
                "depths": [1, 2, 1, 1],
                "num_heads": [1, 2, 4, 8],
                "window_size": 4,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            "num_labels": len(CLASSES),
            "feature_size": 32,
            "mask_feature_size": 32,
            "hidden_dim": 32,
            "encoder_feedforward_dim": 32,
            "encoder_layers": 1,
            "decoder_layers": 3,
            "num_attention_heads": 4,
            "dim_feedforward": 64,
            "num_queries": 20,
        }
    )


def _small_clip() -> CLIPConfig:
    letters = _letters()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    return CLIPConfig(
        text_config=sizes
        | {
            "num_hidden_layers": 1,
            "vocab_size": len(letters),
            "bos_token_id": letters.bos_token_id,
            "eos_token_id": letters.eos_token_id,
            "pad_token_id": letters.pad_token_id,
        },
        vision_config=sizes | {"num_hidden_layers": 1, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )


def _letters() -> CLIPTokenizer:
    """CLIP's tokenizer without its vocabulary: every letter is a token."""
    letters = "abcdefghijklmnopqrstuvwxyz-"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])

"""A pipeline of a named size with random weights: as fast as a trained one, and nothing else."""

from __future__ import annotations

from typing import NamedTuple

from dcar.config import PRESETS, JointTextConfig, SamplingConfig, TextConfig
from dcar.model import DCAR
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.pipeline import TextToImage
from dcar.sampling_config import with_preset
from dcht import config as tokenizers
from dcht.errors import UsageError
from dcht.tokenizer import Tokenizer


class Fitting(NamedTuple):
    """What goes with a preset of the generator."""

    tokenizer: tokenizers.TokenizerConfig
    side: int
    """In pixels."""
    sampling: str = "paper"
    """Preset of the sampler."""


FITTING = {
    "dcar_671m": Fitting(tokenizers.PRESETS["f32c32"], 512),
    "dc_ar_512": Fitting(tokenizers.VARIANTS["dc-ht"], 512, "release"),
    "small": Fitting(tokenizers.PRESETS["small"], 256),
    "tiny": Fitting(tokenizers.PRESETS["tiny"], 64),
}
T5_BASE = JointTextConfig(depth=12, num_heads=12, vocabulary=32128)
"""T5-base by its sizes; a generator's `text_dim` of 768 gives the widths."""


def random_pipeline(preset: str) -> TextToImage:
    """Build a preset of `dcar.config.PRESETS`, with its tokenizer and its text encoder.

    Raises:
        UsageError: there is no such preset.
    """
    if preset not in FITTING:
        raise UsageError(f"preset {preset!r} is not known; use {', '.join(FITTING)}")
    config, fitting = PRESETS[preset], FITTING[preset]
    joint = config.text.joint or T5_BASE
    # Words that no prompt has: what is known makes no difference to the time.
    words = word_tokenizer((f"word{number}" for number in range(joint.vocabulary)), joint)
    text = TextConfig(name=None, joint=joint, sees_mask=config.text.sees_mask)
    return TextToImage(
        DCAR(config),
        TextEncoder.joint(text, config.generator, words),
        Tokenizer(fitting.tokenizer),
        sampling=with_preset(SamplingConfig(), fitting.sampling),
        size=(fitting.side, fitting.side),
    )

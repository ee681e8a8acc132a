"""Text encoders from files: a frozen T5 of anybody's, and the words of a small one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import tokenizers
import torch
from safetensors import SafetensorError

from dcar.config import GeneratorConfig, TextConfig
from dcar.modules.text import TextEncoder
from dcar.modules.words import restore_word_tokenizer
from dcht.checkpoint import is_finite
from dcht.errors import CheckpointError, UsageError
from dcht.files import read_json
from dcht.hub import Access


def load_t5(
    config: TextConfig, generator: GeneratorConfig, **access: Unpack[Access]
) -> TextEncoder:
    """Load the frozen T5 that the config names, from a folder or the Hub.

    Raises:
        CheckpointError: it cannot be loaded, or has another width than the generator expects.
    """
    from transformers import AutoTokenizer, T5EncoderModel

    try:
        tokenizer = AutoTokenizer.from_pretrained(config.name, **access)
        encoder = T5EncoderModel.from_pretrained(config.name, dtype=torch.float32, **access)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        if "tiktoken" in reason:  # what transformers tries where sentencepiece is missing
            reason = "its tokenizer is a spiece.model; pip install sentencepiece reads it"
        raise CheckpointError(f"text encoder {config.name}: {reason}") from None
    broken = [key for key, value in encoder.state_dict().items() if not is_finite(value)]
    if broken:
        raise CheckpointError(f"text encoder {config.name}: {broken[0]} is not finite")
    if encoder.config.d_model != generator.text_dim:
        raise CheckpointError(
            f"text encoder {config.name} is {encoder.config.d_model} wide; the generator "
            f"expects text_dim {generator.text_dim}"
        )
    return TextEncoder(
        encoder.encoder,
        tokenizer.backend_tokenizer,
        length=generator.text_length,
        sees_mask=config.sees_mask,
        trained=False,
    )


def read_word_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """The word-level tokenizer of a `tokenizer.json`.

    Raises:
        CheckpointError: it is missing, damaged, or no such tokenizer.
    """
    try:
        return restore_word_tokenizer(read_json(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; a small text encoder needs it") from None
    except UsageError as error:
        reason = str(error).removeprefix(f"{path} ")
        raise CheckpointError(f"{path} cannot be read: it {reason}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is no tokenizer of words: {error}") from None

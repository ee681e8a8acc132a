"""What a training run starts from: its settings, its image tokenizer, its weights.

Everything that can be refused is refused here, before the first step.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dcar.config import CheckpointConfig, DCARConfig
from dcar.data import Data
from dcar.model import DCAR
from dcar.modules.classes import ClassEncoder, sort_classes
from dcar.modules.condition import Encoder
from dcar.modules.text import TextEncoder
from dcar.modules.words import count_words, word_tokenizer
from dcar.train.lora import add_lora
from dcar.train_config import TrainConfig
from dcar.weights.pretrained import BUNDLED, find_tokenizer, load_pretrained
from dcar.weights.text import load_t5
from dcht.checkpoint import CONFIG, from_dict, read_config, to_dict
from dcht.config import TokenizerConfig
from dcht.engine.run_folder import differences
from dcht.errors import UsageError, printable
from dcht.hub import locate
from dcht.ranges import WEIGHTLESS, marked
from dcht.tokenizer import Tokenizer
from dcht.train.start import preset_of, read_layout

NAMED_WORDS = 20
"""How many words a message names before it says how many more there are."""


def layouts_of(settings: Any) -> dict[str, Any]:
    """The layouts of tokenizer and model that a run has, where no presets are chosen.

    The tokenizer's is that of `tokenizer_ckpt`; without one, of the tokenizer that `init_from` was
    trained with; without that, of the bundled one. The model's is that of `init_from`, if that is a
    checkpoint, and so is how images are drawn: settings and rounding.

    Raises:
        CheckpointError: there is no such checkpoint, or its `config.json` is damaged.
    """
    found: dict[str, Any] = {}
    if settings.init_from != "scratch":
        folder = locate(settings.init_from, bundled=BUNDLED)
        config = from_dict(CheckpointConfig, read_config(folder), str(folder / CONFIG))
        found |= {"model": config.model, "sampling": config.sampling, "rounding": config.rounding}
        if settings.tokenizer_ckpt is None:
            found["tokenizer_ckpt"] = find_tokenizer(config.tokenizer, folder)
    ckpt = settings.tokenizer_ckpt or found.get("tokenizer_ckpt")
    return found | {"tokenizer": replace(read_layout(ckpt), residual_std=None)}


def load_image_tokenizer(config: TrainConfig) -> Tokenizer:
    """The image tokenizer of the run.

    Raises:
        UsageError: its layout is not `config.tokenizer`, or the model is for another one.
    """
    tokenizer = Tokenizer.from_pretrained(config.tokenizer_ckpt)
    weightless = marked(TokenizerConfig, WEIGHTLESS)
    if different := differences(to_dict(tokenizer.config), to_dict(config.tokenizer), weightless):
        raise UsageError(
            f"tokenizer_ckpt={config.tokenizer_ckpt} differs from the tokenizer that was asked "
            f"for in {', '.join(sorted(different))}; {preset_of(tokenizer.config)}"
        )
    model, layout = config.model, tokenizer.config
    for name, ours, its in (
        ("generator.codebook_size", model.generator.codebook_size, layout.codebook_size),
        ("head.latent_channels", model.head.latent_channels, layout.latent_channels),
    ):
        if ours != its:
            raise UsageError(f"model.{name} is {ours}, and {its} in the image tokenizer")
    return tokenizer


def start_weights(config: TrainConfig, data: Data) -> tuple[DCAR, Encoder]:
    """Random weights, or the published ones of `init_from`; with LoRA's matrices, if wanted.

    Positions are recomputed for any grid, so a 256 px checkpoint starts a 512 px run (section 4.3).
    A text encoder that trains with the generator gets embeddings for the words of the captions
    that the checkpoint has never seen, and names them on stderr; one of classes, for new classes.

    Raises:
        UsageError: `init_from` is a model of another shape than `config.model`, or LoRA from
            scratch.
    """
    if config.init_from == "scratch":
        if config.lora.rank:
            raise UsageError(
                f"lora.rank={config.lora.rank} has nothing to adapt with init_from=scratch; "
                "give a checkpoint"
            )
        return DCAR(config.model), _new_text(config, data)
    found = load_pretrained(config.init_from)
    weightless = marked(DCARConfig, WEIGHTLESS)
    if different := differences(to_dict(found.config.model), to_dict(config.model), weightless):
        settings = ", ".join(f"model.{name}" for name in sorted(different))
        raise UsageError(
            f"init_from={config.init_from} differs from the model that was asked for in "
            f"{settings}; leave these and model= out, and the run takes the checkpoint's"
        )
    model = DCAR(config.model)
    model.load_state_dict(found.model.state_dict())
    if config.lora.rank:
        add_lora(model, config.lora)
    if not found.text.trained:
        return model, found.text
    text = same_encoder(found.text, config.model)
    text.load_state_dict(found.text.state_dict())
    if isinstance(text, ClassEncoder):
        if new := text.learn(sort_classes(_every_caption(data))):
            print(
                f"{len(new)} classes are new to {config.init_from}: {_shorten(new)}",
                file=sys.stderr,
            )
    elif config.model.text.joint is not None:
        _learn_words(text, data, config.model.text.joint.vocabulary, config.init_from)
    return model, text


def same_encoder(text: Encoder, config: DCARConfig) -> Encoder:
    """An encoder that trains, of the same words or classes, with random weights."""
    if isinstance(text, ClassEncoder):
        return ClassEncoder(text.names, config.generator.text_dim)
    return TextEncoder.joint(config.text, config.generator, text.tokenizer)


def _new_text(config: TrainConfig, data: Data) -> Encoder:
    text, generator = config.model.text, config.model.generator
    if text.classes is not None:
        return ClassEncoder(sort_classes(_every_caption(data)), generator.text_dim)
    if text.joint is None:
        return load_t5(text, generator)
    return TextEncoder.joint(text, generator, word_tokenizer(_every_caption(data), text.joint))


def _learn_words(text: TextEncoder, data: Data, vocabulary: int, start: str) -> None:
    """Teach a joint encoder the words it lacks, and say which they are."""
    words = count_words(_every_caption(data), text.tokenizer)
    new = text.learn_words(_every_caption(data), vocabulary)
    if new:
        print(
            f"{len(new)} of {len(words)} words are new to {start} and are learned from scratch: "
            f"{_shorten(new)}",
            file=sys.stderr,
        )
    if left := sorted(word for word in words if text.unknown_words(word)):
        print(
            f"{len(left)} words stay unknown, the vocabulary of {vocabulary} being full: "
            f"{_shorten(left)}",
            file=sys.stderr,
        )


def _every_caption(data: Data) -> Iterator[str]:
    return (caption for texts in data.captions for caption in texts)


def _shorten(words: list[str]) -> str:
    rest = len(words) - NAMED_WORDS
    return " ".join(map(printable, words[:NAMED_WORDS])) + (f" and {rest} more" if rest > 0 else "")

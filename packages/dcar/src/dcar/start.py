"""What a training run starts from: its settings, its image tokenizer, its weights.

Everything that can be refused is refused here, before the first step.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

from dcar.data import Data
from dcar.lora import add_lora
from dcar.model import DCAR
from dcar.pretrained import load_pretrained
from dcar.text import TextEncoder
from dcar.train_config import TrainConfig
from dcar.words import count_words, word_tokenizer
from dcht.checkpoint import to_dict
from dcht.errors import UsageError, printable
from dcht.run_folder import differences
from dcht.tokenizer import Tokenizer

NAMED_WORDS = 20
"""How many words a message names before it says how many more there are."""


def load_image_tokenizer(config: TrainConfig) -> Tokenizer:
    """The image tokenizer of the run.

    Raises:
        UsageError: its layout is not `config.tokenizer`.
    """
    tokenizer = Tokenizer.from_pretrained(config.tokenizer_ckpt)
    ignored = {"residual_std": None, "commitment_weight": 0.0}
    theirs, ours = (
        to_dict(replace(layout, **ignored))  # type: ignore[arg-type]
        for layout in (tokenizer.config, config.tokenizer)
    )
    if odd := sorted(differences(theirs, ours)):
        raise UsageError(
            f"tokenizer_ckpt={config.tokenizer_ckpt} differs from tokenizer=NAME in "
            f"{', '.join(odd)}; choose the preset that it has"
        )
    return tokenizer


def start_weights(config: TrainConfig, data: Data) -> tuple[DCAR, TextEncoder]:
    """Random weights, or the published ones of `init_from`; with LoRA's matrices, if wanted.

    Positions are recomputed for any grid, so a 256 px checkpoint starts a 512 px run (section 4.3).
    A text encoder that trains with the generator gets embeddings for the words of the captions
    that the checkpoint has never seen, and names them on stderr.

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
    found = load_pretrained(None if config.init_from == "bundled" else config.init_from)
    # What has no weights of its own, or only training or sampling reads, may differ.
    free = {
        "attention_dropout", "cond_dropout", "fully_masked", "positions", "batch_mul",
        "residual_std", "clip",
    }  # fmt: skip
    odd = {
        name
        for name in differences(to_dict(found.config.model), to_dict(config.model))
        if name.split(".")[-1] not in free
    }
    if odd:
        raise UsageError(
            f"init_from={config.init_from} differs from the model that was asked for in "
            f"{', '.join(sorted(odd))}; choose its preset with model=NAME"
        )
    model = DCAR(config.model)
    model.load_state_dict(found.model.state_dict())
    if config.lora.rank:
        add_lora(model, config.lora)
    if config.model.text.joint is not None:
        words = found.text.tokenizer.backend_tokenizer
        text = TextEncoder.joint(config.model.text, config.model.generator, words)
        text.load_state_dict(found.text.state_dict())
        _learn_words(text, data, config.model.text.joint.vocabulary, config.init_from)
        return model, text
    return model, found.text


def _new_text(config: TrainConfig, data: Data) -> TextEncoder:
    text, generator = config.model.text, config.model.generator
    if text.joint is None:
        return TextEncoder.pretrained(text, generator)
    return TextEncoder.joint(text, generator, word_tokenizer(_every_caption(data), text.joint))


def _learn_words(text: TextEncoder, data: Data, vocabulary: int, start: str) -> None:
    """Teach a joint encoder the words it lacks, and say which they are."""
    words = count_words(_every_caption(data), text.tokenizer.backend_tokenizer)
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

"""What a training run starts from: its settings, its image tokenizer, its weights.

Everything that can be refused is refused here, before the first step.
"""

from __future__ import annotations

from dataclasses import replace

from dcar.data import Data
from dcar.model import DCAR
from dcar.pretrained import load_pretrained
from dcar.text import TextEncoder, word_tokenizer
from dcar.train_config import TrainConfig
from dcht.checkpoint import to_dict
from dcht.errors import UsageError
from dcht.tokenizer import Tokenizer
from dcht.training import differences


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
    """Random weights, or the published ones of `init_from`.

    Positions are recomputed for any grid, so a 256 px checkpoint starts a 512 px run (section 4.3).

    Raises:
        UsageError: `init_from` is a model of another shape than `config.model`.
    """
    model, generator = DCAR(config.model), config.model.generator
    if config.init_from == "scratch":
        if config.model.text.joint is None:
            return model, TextEncoder.pretrained(config.model.text, generator)
        every = (caption for texts in data.captions for caption in texts)
        words = word_tokenizer(every, config.model.text.joint)
        return model, TextEncoder.joint(config.model.text, generator, words)
    found = load_pretrained(None if config.init_from == "bundled" else config.init_from)
    # What only training or sampling reads may differ.
    free = {"attention_dropout", "cond_dropout", "batch_mul", "residual_std", "clip"}
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
    model.load_state_dict(found.model.state_dict())
    return model, found.text

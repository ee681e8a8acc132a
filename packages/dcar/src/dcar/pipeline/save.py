"""A pipeline as a checkpoint of its own: a folder for `from_pretrained`, and its model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dcar.config import CheckpointConfig
from dcar.modules.classes import ClassEncoder
from dcar.modules.text import TextEncoder
from dcar.weights.int8 import is_int8
from dcar.weights.pretrained import refer_to_tokenizer, save_pretrained
from dcht.checkpoint import checkpoint_sha256
from dcht.errors import UsageError
from dcht.hub import model_card
from dcht.tokenizer import BUNDLED as BUNDLED_TOKENIZER

if TYPE_CHECKING:
    from dcar.pipeline import TextToImage

TOKENIZER_FOLDER = "tokenizer"


def save_pipeline(pipe: TextToImage, folder: Path, dtype: torch.dtype | None) -> str:
    """The work of `TextToImage.save_pretrained`; returns the checkpoint's hash.

    Raises:
        UsageError: weights that are int8, or a text encoder that no checkpoint can hold.
    """
    if is_int8(pipe.model):
        raise UsageError("int8 weights cannot be saved; load the checkpoint in another precision")
    text = pipe.text
    if not isinstance(text, (TextEncoder, ClassEncoder)):
        raise UsageError(
            f"a {type(text).__name__} cannot be saved: checkpoints hold a TextEncoder or a "
            "ClassEncoder; save the model's weights alone (pipe.model.state_dict())"
        )
    name = pipe.tokenizer_id
    if name is None and pipe.tokenizer.sha256 != _bundled():
        name = str(folder / TOKENIZER_FOLDER)
        pipe.tokenizer.save_pretrained(name)
    height, width = pipe.size
    config = CheckpointConfig(
        model=pipe.model.config,
        tokenizer=refer_to_tokenizer(pipe.tokenizer, name, folder),
        sampling=pipe.sampling,
        height=height,
        width=width,
        rounding=pipe.rounding,
    )
    return save_pretrained(folder, pipe.model, text, config, dtype=dtype)


def pipeline_card(pipe: TextToImage, name: str) -> str:
    """A model card for a repository or folder of this name."""
    parts = [pipe.model.generator, pipe.model.head]
    generator, head = (
        sum(p.numel() for p in part.parameters()) / 1e6 if part is not None else 0.0
        for part in parts
    )
    classes, sampling = pipe.model.config.text.classes, pipe.sampling
    encoder = pipe.model.config.text.name or "a small one, in these weights"
    prompt = "a photo of a red apple"
    if classes is not None:
        encoder, prompt = f"none: {len(classes.names)} classes", classes.names[0]
    height, width = pipe.size
    return model_card(
        name.split("/")[-1],
        library="dcar",
        tag="text-to-image",
        about="A DC-AR generator (ICCV 2025): masked autoregressive over a hybrid tokenizer.",
        use=f'dcar generate "{prompt}" --ckpt {name} --out image.png',
        facts={
            "parameters": f"generator {generator:.2f} M, residual head {head:.2f} M",
            "text encoder": encoder,
            "pixels": f"{width} x {height}",
            "sampling": f"{sampling.num_steps} steps, guidance {sampling.cfg_scale:g}, temperature "
            f"{sampling.temperature:g}, {sampling.num_diffusion_steps} steps of the head",
        },
    )


def _bundled() -> str | None:
    return checkpoint_sha256(BUNDLED_TOKENIZER) if BUNDLED_TOKENIZER.is_dir() else None

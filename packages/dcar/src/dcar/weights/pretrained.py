"""Published generators on disk: `config.json`, `model.safetensors`, and `tokenizer.json`.

The file of tensors holds `generator.` and `head.`, and `text.` where the text encoder is the small
one; the config names the image tokenizer by hash. `tokenizer.json` is the small encoder's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from dcar.config import CheckpointConfig, TokenizerReference
from dcar.model import DCAR
from dcar.modules.classes import ClassEncoder
from dcar.modules.condition import Encoder
from dcar.modules.text import TextEncoder
from dcar.weights.text import load_t5, read_word_tokenizer
from dcht.checkpoint import (
    build_on_meta,
    checkpoint_sha256,
    from_dict,
    load_strict,
    read_config,
    read_tensors,
    to_written,
    write_checkpoint,
)
from dcht.errors import CheckpointError
from dcht.hub import BUNDLED as BUNDLED_NAME
from dcht.hub import HUB_ID, Access, locate
from dcht.releases import TOKENIZER, holder
from dcht.tokenizer import BUNDLED as BUNDLED_TOKENIZER
from dcht.tokenizer import Tokenizer

BUNDLED = Path(str(resources.files("dcar"))) / "checkpoints" / "default"
TOKENIZER_FILE = "tokenizer.json"
TEXT_PREFIX = "text."


@dataclass(kw_only=True)
class Pretrained:
    """A generator that was loaded, on the CPU, in eval mode and fp32."""

    model: DCAR
    text: Encoder
    config: CheckpointConfig
    folder: Path
    sha256: str


def save_pretrained(
    folder: str | Path,
    model: DCAR,
    text: Encoder | None,
    config: CheckpointConfig,
    *,
    dtype: torch.dtype | None = None,
) -> str:
    """Write a checkpoint and return its hash; `dtype` float16 halves the file.

    A frozen `text` is not written, as the config names it: it may be None.
    """
    tensors = dict(model.state_dict())
    extra: dict[str, bytes] = {}
    if text is not None and text.trained:
        tensors |= {TEXT_PREFIX + key: value for key, value in text.state_dict().items()}
        if isinstance(text, TextEncoder):
            extra[TOKENIZER_FILE] = text.tokenizer_json().encode()
    return write_checkpoint(folder, to_written(config), tensors, dtype=dtype, extra_files=extra)


def load_pretrained(
    name: str | Path | None = None, *, revision: str | None = None, **access: Unpack[Access]
) -> Pretrained:
    """Load a folder, a Hub id, or (None, `bundled`) the checkpoint that ships with the package.

    Args:
        name: which one.
        revision: of a Hub id.
        access: how the Hub is asked, for the checkpoint and for a T5 that it names.

    Raises:
        CheckpointError: files missing, unknown settings, keys that do not fit, or a text encoder
            that cannot be had.
    """
    if name in (None, BUNDLED_NAME) and not BUNDLED.is_dir():
        raise CheckpointError(
            "this installation bundles no generator; name one (--ckpt, a folder or a Hub id)"
        )
    folder = locate(name, bundled=BUNDLED, revision=revision, **access)
    config = from_dict(CheckpointConfig, read_config(folder), str(folder / "config.json"))
    tensors = read_tensors(folder)
    model = build_on_meta(lambda: DCAR(config.model), str(folder / "config.json"))
    load_strict(model, {k: v for k, v in tensors.items() if not _of_text(k)}, str(folder))
    text_tensors = {k.removeprefix(TEXT_PREFIX): v for k, v in tensors.items() if _of_text(k)}
    text = _load_text(config, folder, text_tensors, access)
    return Pretrained(
        model=model.eval(),
        text=text.eval(),
        config=config,
        folder=folder,
        sha256=checkpoint_sha256(folder),
    )


def load_tokenizer(
    reference: TokenizerReference, folder: Path, **access: Unpack[Access]
) -> Tokenizer:
    """Load the image tokenizer that a checkpoint in `folder` was trained on.

    Raises:
        CheckpointError: it is not there, or what is there has another hash.
    """
    tokenizer = Tokenizer.from_pretrained(find_tokenizer(reference, folder), **access)
    if tokenizer.sha256 != reference.sha256:
        raise CheckpointError(
            f"{folder} needs image tokenizer {reference.sha256}, but {reference.location} is "
            f"{tokenizer.sha256}{holder(reference.sha256)}"
        )
    return tokenizer


def find_tokenizer(reference: TokenizerReference, folder: Path) -> str | None:
    """Where the image tokenizer of a checkpoint in `folder` is; None: it is the bundled one.

    The bundled one is tried first: a checkpoint keeps working where its tokenizer's folder is gone.
    That of an older release is looked for in `folder/tokenizer`, and where the wheels of that
    release have it if they are unpacked into one folder.

    Raises:
        CheckpointError: it is an older release's, and in neither place.
    """
    found = checkpoint_sha256(BUNDLED_TOKENIZER) if BUNDLED_TOKENIZER.is_dir() else "nothing"
    if found == reference.sha256:
        return None
    if reference.location != "bundled":
        local = folder / reference.location
        # Resolved: behind a link, `..` is another folder than the one before it in the name.
        return os.path.relpath(local.resolve()) if local.is_dir() else reference.location
    own = folder / "tokenizer"
    for place in (own, folder.resolve().parents[2] / TOKENIZER):
        if place.is_dir() and checkpoint_sha256(place) == reference.sha256:
            return str(place)
    raise CheckpointError(
        f"{folder} needs the bundled image tokenizer {reference.sha256}, but this dcht bundles "
        f"{found}; copy that one to {own}{holder(reference.sha256)}"
    )


def hub_id(reference: TokenizerReference, folder: Path) -> str | None:
    """Where on the Hub the image tokenizer of a checkpoint in `folder` is; None: elsewhere."""
    local = reference.location == "bundled" or (folder / reference.location).is_dir()
    return None if local or not HUB_ID.fullmatch(reference.location) else reference.location


def check_tokenizer(tokenizer: Tokenizer, config: CheckpointConfig, folder: Path) -> None:
    """Refuse a checkpoint whose settings contradict its image tokenizer's.

    Raises:
        CheckpointError: other codes, channels, or sides that are no whole number of tokens.
    """
    theirs, ours = tokenizer.config, config.model
    pairs = [("codes", theirs.codebook_size, ours.generator.codebook_size)]
    if not ours.discrete_only:
        pairs.append(("channels", theirs.latent_channels, ours.head.latent_channels))
    for name, found, expected in pairs:
        if found != expected:
            raise CheckpointError(
                f"{folder} was made for {expected} {name}; its image tokenizer has {found}"
            )
    for side in (config.height, config.width):
        if side % theirs.downsampling:
            raise CheckpointError(
                f"{folder}: side {side} is not a multiple of {theirs.downsampling}, what a token "
                "of its image tokenizer has"
            )


def refer_to_tokenizer(tokenizer: Tokenizer, name: str | None, folder: Path) -> TokenizerReference:
    """The reference that a checkpoint in `folder` keeps to the tokenizer loaded from `name`."""
    assert tokenizer.sha256 is not None
    if name is None:
        location = "bundled"
    elif Path(name).is_dir():
        location = os.path.relpath(Path(name).resolve(), folder.resolve())
    else:
        location = name
    if BUNDLED_TOKENIZER.is_dir() and checkpoint_sha256(BUNDLED_TOKENIZER) == tokenizer.sha256:
        location = "bundled"
    return TokenizerReference(sha256=tokenizer.sha256, location=location)


def _of_text(key: str) -> bool:
    return key.startswith(TEXT_PREFIX)


def _load_text(
    config: CheckpointConfig, folder: Path, tensors: dict[str, Tensor], access: Access
) -> Encoder:
    layout, generator = config.model.text, config.model.generator
    text: Encoder
    if layout.name is not None:
        return load_t5(layout, generator, **access)
    if layout.classes is not None:
        names = layout.classes.names
        text = build_on_meta(
            lambda: ClassEncoder(names, generator.text_dim), str(folder / "config.json")
        )
    else:
        words = read_word_tokenizer(folder / TOKENIZER_FILE)
        text = build_on_meta(
            lambda: TextEncoder.joint(layout, generator, words), str(folder / "config.json")
        )
    load_strict(text, tensors, f"{folder}, text encoder")
    return text

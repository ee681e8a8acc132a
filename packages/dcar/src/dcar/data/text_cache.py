"""Text embeddings on disk: each caption goes through a frozen T5 once.

A cache is `FOLDER/ENCODER/xx/CAPTION.safetensors`, both names being hashes: another encoder, length
or way of masking has a folder of its own. Files appear whole or not at all, so any number of
processes may share a cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dcar.modules.condition import Encoder
from dcar.modules.text import TextEncoder
from dcht.checkpoint import is_finite
from dcht.errors import CheckpointError, UsageError
from dcht.files import partial_path

AT_ONCE = 64
"""Captions that go through the encoder together."""


class TextCache:
    """The embeddings of captions, encoded where they are not yet in the cache."""

    def __init__(self, encoder: Encoder, folder: str | Path) -> None:
        """Open or begin a cache.

        Raises:
            UsageError: the encoder is trained, so that its embeddings change.
        """
        if encoder.trained or not isinstance(encoder, TextEncoder):
            raise UsageError(
                "text_cache is set, but the text encoder is trained with the generator: its "
                "embeddings change with every step; leave text_cache unset"
            )
        self.encoder = encoder
        self.folder = Path(folder) / encoder.sha256()[:16]

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings (b, l, e) fp32 and mask (b, l) boolean, on the encoder's device.

        What is stored, and so what comes back, is rounded to float16; padding is zeros, which no
        attention sees.

        Raises:
            CheckpointError: a file of the cache is damaged; deleting it repairs the cache.
            UsageError: an embedding does not fit float16, or a file cannot be written (a full disk,
                say).
        """
        paths = [self._path(caption) for caption in captions]
        missing = {path: text for path, text in zip(paths, captions, strict=True)
                   if not path.exists()}  # fmt: skip
        items = list(missing.items())
        for start in range(0, len(items), AT_ONCE):
            self._add(dict(items[start : start + AT_ONCE]))
        found = [_load(path) for path in paths]
        device = next(self.encoder.parameters()).device
        embeddings = torch.zeros(len(found), self.encoder.length, found[0].shape[1])
        mask = torch.zeros(len(found), self.encoder.length, dtype=torch.bool)
        for number, words in enumerate(found):
            embeddings[number, : len(words)] = words
            mask[number, : len(words)] = True
        return embeddings.to(device), mask.to(device)

    def _add(self, missing: dict[Path, str]) -> None:
        tokens = self.encoder.tokenize(list(missing.values()))
        device = next(self.encoder.parameters()).device
        embedded = self.encoder(tokens.ids.to(device), tokens.mask.to(device)).cpu()
        for path, words, mask in zip(missing, embedded, tokens.mask, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            stored = words[mask].to(torch.float16)
            if not is_finite(stored):
                raise UsageError(
                    "text_cache keeps float16, and an embedding of this encoder passes its 65504; "
                    "leave text_cache unset"
                )
            _write(path, save({"text": stored}))

    def _path(self, caption: str) -> Path:
        name = hashlib.sha256(caption.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"


def _write(path: Path, content: bytes) -> None:
    """`write_atomic` without its fsync, which takes ten times as long as all else (measured).

    Two processes that need the same caption write the same bytes, each to its own file.
    """
    partial = partial_path(path)
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _load(path: Path) -> Tensor:
    try:
        text = load_file(path)["text"].float()
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}; delete it") from None
    if not is_finite(text):
        raise CheckpointError(f"{path} holds NaN or infinity; delete it")
    return text

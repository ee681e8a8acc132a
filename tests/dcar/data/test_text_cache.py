import os
import resource
import stat
from pathlib import Path

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from dcar.data.text_cache import TextCache
from dcar.modules.text import TextEncoder
from dcht import CheckpointError, UsageError

CAPTIONS = ["a red apple", "two green cars", "a red apple", ""]


def frozen(text: TextEncoder, *, seed: int = 0, sees_mask: bool = True) -> TextEncoder:
    """A frozen T5 with the tokenizer of another encoder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = T5Config(
            vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, use_cache=False
        )
        stack = T5EncoderModel(config).encoder
    return TextEncoder(stack, text.tokenizer, length=8, sees_mask=sees_mask, trained=False)


@pytest.mark.parametrize("sees_mask", [True, False])
def test_cached_is_what_the_encoder_says(
    text: TextEncoder, tmp_path: Path, sees_mask: bool
) -> None:
    encoder = frozen(text, sees_mask=sees_mask)
    tokens = encoder.tokenize(CAPTIONS)
    expected = encoder(*tokens)
    for _ in range(2):
        embeddings, mask = TextCache(encoder, tmp_path).encode(CAPTIONS)
        assert torch.equal(mask, tokens.mask)
        assert torch.allclose(embeddings[mask], expected[mask], atol=2e-3)
        assert not embeddings[~mask].any()


def test_a_caption_is_encoded_once(
    text: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = frozen(text)
    calls: list[int] = []
    forward = TextEncoder.forward

    def counted(self: TextEncoder, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        calls.append(len(ids))
        return forward(self, ids, mask)

    monkeypatch.setattr(TextEncoder, "forward", counted)
    first = TextCache(encoder, tmp_path).encode(CAPTIONS)
    again = TextCache(encoder, tmp_path).encode(CAPTIONS[::-1])
    assert calls == [3]  # one caption is there twice
    assert torch.equal(first[0].flip(0), again[0])
    assert not list(tmp_path.rglob("*.partial"))


def test_a_cache_is_everybodys_who_may_read_its_folder(text: TextEncoder, tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o007, 0o660)):
        before = os.umask(mask)
        try:
            TextCache(frozen(text), tmp_path / oct(mask)).encode(CAPTIONS)
        finally:
            os.umask(before)
        files = list((tmp_path / oct(mask)).rglob("*.safetensors"))
        assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [mode] * 3


@pytest.mark.parametrize("size", [0, 50])
def test_a_full_disk_is_one_line_and_leaves_no_part(
    text: TextEncoder, size: int, tmp_path: Path
) -> None:
    cache = TextCache(frozen(text), tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(UsageError, match=r"safetensors cannot be written: File too large$"):
            cache.encode(CAPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    cache.encode(CAPTIONS)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3


def test_another_encoder_has_a_cache_of_its_own(text: TextEncoder, tmp_path: Path) -> None:
    encoders = [frozen(text), frozen(text, seed=1), frozen(text, sees_mask=False)]
    folders = {TextCache(encoder, tmp_path).folder for encoder in encoders}
    assert len(folders) == 3
    assert TextCache(frozen(text), tmp_path).folder in folders


def test_what_cannot_be_cached(text: TextEncoder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="text_cache is set, but the text encoder is trained"):
        TextCache(text, tmp_path)
    cache = TextCache(frozen(text), tmp_path)
    cache.encode(["a red apple"])
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(CheckpointError, match=rf"{file.name} is damaged: .*; delete it"):
        cache.encode(["a red apple"])

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from dcar.config import PRESETS, JointTextConfig, TextConfig
from dcar.text import TextEncoder, word_tokenizer
from dcht import CheckpointError

GENERATOR = PRESETS["tiny"].generator


def test_words_are_lower_cased_and_punctuation_stands_apart(text: TextEncoder) -> None:
    plain, loud = text.tokenize(["a red apple"]), text.tokenize(["A RED apple"])
    assert torch.equal(plain.ids, loud.ids)
    words = text.tokenizer.convert_ids_to_tokens(text.tokenize(["a red apple!"]).ids[0].tolist())
    assert words == ["a", "red", "apple", "<unk>", "</s>", "<pad>", "<pad>", "<pad>"]


def test_mask_covers_the_words_and_the_end(text: TextEncoder) -> None:
    tokens = text.tokenize(["a red apple", "", "a " * 50])
    assert tokens.ids.shape == tokens.mask.shape == (3, 8)
    assert tokens.mask.sum(dim=1).tolist() == [4, 1, 8]
    assert tokens.mask.dtype == torch.bool
    ends = text.tokenizer.eos_token_id
    assert tokens.ids[0, 3] == tokens.ids[1, 0] == tokens.ids[2, 7] == ends


def test_unknown_words_are_named_as_written_and_once(text: TextEncoder) -> None:
    assert text.unknown_words("A Zebra, a red Zebra") == ["Zebra", ","]
    assert text.unknown_words("two GREEN cars") == []


def test_the_vocabulary_is_the_most_frequent_words_in_any_order() -> None:
    captions = ["b b b c", "a a b", "d"]
    kept = word_tokenizer(captions, JointTextConfig(vocabulary=5))
    assert set(kept.get_vocab()) == {"<pad>", "</s>", "<unk>", "b", "a"}
    again = word_tokenizer(reversed(captions), JointTextConfig(vocabulary=5))
    assert again.to_str() == kept.to_str()
    assert kept.token_to_id("<pad>") == 0


def test_joint_encoder_trains_and_hides_padding(text: TextEncoder) -> None:
    tokens = text.tokenize(["a red apple"])
    text(*tokens).sum().backward()
    assert text.trained
    assert all(parameter.grad is not None for parameter in text.parameters())
    other = tokens.ids.clone()
    other[0, 5:] = 3
    real = tokens.mask[0]
    seen, hidden = text(*tokens)[0, real], text(other, tokens.mask)[0, real]
    assert torch.allclose(seen, hidden, atol=1e-6)
    text.sees_mask = False
    assert not torch.allclose(text(*tokens)[0, real], text(other, tokens.mask)[0, real], atol=1e-6)


@pytest.fixture
def t5_folder(text: TextEncoder, tmp_path: Path) -> Path:
    """A T5 as transformers saves one, with its tokenizer."""
    folder = tmp_path / "t5"
    config = T5Config(
        vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, use_cache=False
    )
    T5EncoderModel(config).save_pretrained(folder)
    text.tokenizer.save_pretrained(folder)
    return folder


def test_a_t5_from_a_folder_is_frozen(t5_folder: Path) -> None:
    config = TextConfig(name=str(t5_folder))
    encoder = TextEncoder.pretrained(config, GENERATOR)
    assert not encoder.trained
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    tokens = encoder.tokenize(["a red apple", "two cars"])
    embedded = encoder(*tokens)
    assert embedded.shape == (2, 8, 16) and not embedded.requires_grad
    # Dropout stays off whatever the caller trains.
    encoder.train()
    assert torch.equal(encoder(*tokens), embedded)


def test_a_t5_that_does_not_fit_or_is_not_there(t5_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"16 wide; the generator expects text_dim 24"):
        TextEncoder.pretrained(TextConfig(name=str(t5_folder)), replace(GENERATOR, text_dim=24))
    with pytest.raises(CheckpointError, match=r"text encoder .*nowhere"):
        TextEncoder.pretrained(TextConfig(name=str(tmp_path / "nowhere")), GENERATOR)

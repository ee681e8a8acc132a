import copy
import importlib.util
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from dcar.config import PRESETS, JointTextConfig, TextConfig
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.weights.text import load_t5
from dcht import CheckpointError

GENERATOR = PRESETS["tiny"].generator


def test_words_are_lower_cased_and_punctuation_stands_apart(text: TextEncoder) -> None:
    plain, loud = text.tokenize(["a red apple"]), text.tokenize(["A RED apple"])
    assert torch.equal(plain.ids, loud.ids)
    words = [text.tokenizer.id_to_token(i) for i in text.tokenize(["a red apple!"]).ids[0].tolist()]
    assert words == ["a", "red", "apple", "<unk>", "</s>", "<pad>", "<pad>", "<pad>"]


def test_mask_covers_the_words_and_the_end(text: TextEncoder) -> None:
    tokens = text.tokenize(["a red apple", "", "a " * 50])
    assert tokens.ids.shape == tokens.mask.shape == (3, 8)
    assert tokens.mask.sum(dim=1).tolist() == [4, 1, 8]
    assert tokens.mask.dtype == torch.bool
    ends = text.tokenizer.token_to_id("</s>")
    assert tokens.ids[0, 3] == tokens.ids[1, 0] == tokens.ids[2, 7] == ends


def test_unknown_words_are_named_as_written_and_once(text: TextEncoder) -> None:
    assert text.unknown_words("A Zebra, a red Zebra") == ["Zebra", ","]
    assert text.unknown_words("two GREEN cars") == []
    assert text.unknown_words("a car </s> <pad> <unk>") == ["</s>", "<pad>", "<unk>"]


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


PIECES = ["▁a", "▁red", "▁apple", "▁two", "▁car", "▁", "s", "r", "e", "d", "p"]


@pytest.fixture
def t5_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a random T5 as the Hub has them: `feed_forward_proj` tells t5 from flan-t5 and v1.1."""

    def make(**settings: object) -> Path:
        folder = tmp_path / "t5"
        config = T5Config(
            vocab_size=128, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
            use_cache=False, **settings,  # type: ignore[arg-type]
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            T5EncoderModel(config).save_pretrained(folder)
        pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        pieces += [(piece, -float(number)) for number, piece in enumerate(PIECES, start=1)]
        T5Tokenizer(vocab=pieces).save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize("layout", ["relu", "gated-gelu"])
def test_a_t5_from_a_folder_is_that_t5_and_frozen(
    t5_folder: Callable[..., Path], layout: str
) -> None:
    folder = t5_folder(feed_forward_proj=layout)
    encoder = load_t5(TextConfig(name=str(folder)), GENERATOR)
    tokens = encoder.tokenize(["a red apple", "two cars", "a " * 50])
    pieces = [encoder.tokenizer.id_to_token(i) for i in tokens.ids[1].tolist()]
    assert pieces == ["▁two", "▁car", "s", "</s>", "<pad>", "<pad>", "<pad>", "<pad>"]
    assert tokens.mask.sum(dim=1).tolist() == [4, 4, 8] and tokens.ids[2, 7] == 1
    reference = T5EncoderModel.from_pretrained(folder).eval()
    embedded = encoder(*tokens)
    expected = reference(input_ids=tokens.ids, attention_mask=tokens.mask.long())
    assert torch.allclose(embedded, expected.last_hidden_state, atol=1e-6)
    assert not encoder.trained and not embedded.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    # Dropout stays off whatever the caller trains.
    encoder.train()
    assert torch.equal(encoder(*tokens), embedded)


@pytest.mark.parametrize("layout", ["relu", "gated-gelu"])
@torch.no_grad()
def test_float16_does_not_overflow(t5_folder: Callable[..., Path], layout: str) -> None:
    folder = t5_folder(feed_forward_proj=layout)
    encoder = load_t5(TextConfig(name=str(folder)), GENERATOR)
    for name, parameter in encoder.named_parameters():
        if ".wo." in name:
            parameter *= 1e5  # its outputs pass float16's 65504, as t5-base's do
    tokens = encoder.tokenize(["a red apple", "two cars"])
    expected = encoder(*tokens)[tokens.mask]
    cast = copy.deepcopy(encoder).half()
    assert cast(*tokens).dtype == torch.float16
    assert {p.dtype for n, p in cast.named_parameters() if ".wo." in n} == {torch.float32}
    assert torch.allclose(cast(*tokens)[tokens.mask].float(), expected, atol=2e-2)
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(encoder(*tokens)[tokens.mask], expected)
    # The values do overflow where nothing is done about it.
    plain = encoder.encoder.half()(input_ids=tokens.ids, attention_mask=tokens.mask.long())
    wrong = plain.last_hidden_state[tokens.mask].float() - expected
    assert not wrong.abs().max() < 0.5


def test_a_t5_that_does_not_fit_or_is_not_there(
    t5_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = t5_folder()
    with pytest.raises(CheckpointError, match=r"16 wide; the generator expects text_dim 24"):
        load_t5(TextConfig(name=str(folder)), replace(GENERATOR, text_dim=24))
    with pytest.raises(CheckpointError, match=r"text encoder .*nowhere"):
        load_t5(TextConfig(name=str(tmp_path / "nowhere")), GENERATOR)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=rf"text encoder {folder}: "):
        load_t5(TextConfig(name=str(folder)), GENERATOR)


def test_v1_1_comes_with_a_spiece_model(t5_folder: Callable[..., Path]) -> None:
    """google/t5-v1_1-base has no tokenizer.json: transformers reads spiece.model instead."""
    folder = t5_folder(feed_forward_proj="gated-gelu")
    for file in folder.glob("*token*"):
        file.unlink()
    # The protocol buffer by hand: pieces (text, score, kind), then the numbers of special pieces.
    special = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2)]
    scored = [(piece, -float(number), 1) for number, piece in enumerate(PIECES, start=1)]
    content = b""
    for piece, score, kind in special + scored:
        text = piece.encode()
        fields = bytes([0x0A, len(text)]) + text + b"\x15" + struct.pack("<f", score)
        fields += bytes([0x18, kind])
        content += bytes([0x0A, len(fields)]) + fields
    trainer = bytes([0x18, 1, 0xC0, 2, 2, 0xD0, 2, 1, 0xD8, 2, 0])  # unigram; unk 2, eos 1, pad 0
    content += bytes([0x12, len(trainer)]) + trainer
    (folder / "spiece.model").write_bytes(content)
    config = TextConfig(name=str(folder))
    if importlib.util.find_spec("sentencepiece") is None:
        with pytest.raises(CheckpointError, match="pip install sentencepiece"):
            load_t5(config, GENERATOR)
        return
    tokens = load_t5(config, GENERATOR).tokenize(["two cars"])
    assert tokens.ids[0].tolist() == [6, 7, 9, 1, 0, 0, 0, 0]


def test_new_words_are_learned_without_a_change_to_the_known(text: TextEncoder) -> None:
    before = text.tokenize(["a red apple", "two green cars"])
    expected = text(*before)
    captions = ["a green zebra", "a red ZEBRA !", "an okapi"]
    assert text.learn_words(captions, vocabulary=64) == ["zebra", "!", "an", "okapi"]
    after = text.tokenize(["a red apple", "two green cars"])
    assert torch.equal(after.ids, before.ids)
    assert torch.equal(text(*after), expected)
    assert text.unknown_words("an okapi, a zebra!") == [","]
    new = text(*text.tokenize(["a zebra", "a okapi"]))
    assert not torch.allclose(new[0, 1], new[1, 1], atol=1e-3)
    assert text.encoder.embed_tokens.weight.requires_grad
    assert text.learn_words(captions, vocabulary=64) == []
    # No more than the vocabulary holds, the most frequent first.
    known = text.tokenizer.get_vocab_size()
    assert text.learn_words(["x x y"], vocabulary=known + 1) == ["x"]
    assert text.learn_words(["y"], vocabulary=known + 1) == []

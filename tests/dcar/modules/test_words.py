"""The tokenizer of words on disk, what a prompt leaves out, and characters that nobody sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dcar.config import JointTextConfig
from dcar.modules.text import TextEncoder
from dcar.modules.words import visible, word_tokenizer
from dcar.weights.text import read_word_tokenizer
from dcht.errors import CheckpointError


@pytest.fixture
def file(text: TextEncoder, tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_text(text.tokenizer_json())
    return path


def test_what_was_written_is_read(text: TextEncoder, file: Path) -> None:
    again = read_word_tokenizer(file)
    assert again.get_vocab() == text.tokenizer.get_vocab()
    assert again.encode("A red, RED apple").ids == text.tokenizer.encode("A red, RED apple").ids


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"]["vocab"].update(apple=2**31), "'apple' has id 2147483648"),
        (lambda c: c["model"]["vocab"].update(apple=-1), "'apple' has id -1; expected 0 to"),
        (lambda c: c["model"]["vocab"].update(apple=10**30), "'apple' has id 10+"),
        (lambda c: c["model"]["vocab"].update(apple=4), "its ids are not one a word"),
        (lambda c: c["model"]["vocab"].update(apple="4"), "'apple' has id '4'"),
        (lambda c: c["model"]["vocab"].update(apple=True), "'apple' has id True"),
        (lambda c: c["model"]["vocab"].pop("<unk>"), "has id"),
        (lambda c: c["model"].update(vocab=[]), "it has no model.vocab"),
        (lambda c: c.update(model=3), "it has no model.vocab"),
        (lambda c: c["model"].update(type="BPE"), "its model is"),
        (lambda c: c.update(normalizer={"type": "Replace"}), "its normalizer is"),
        (lambda c: c.update(pre_tokenizer=None), "its pre_tokenizer is None"),
        (lambda c: c["added_tokens"][0].update(id=2**31), "its added_tokens is"),
        (lambda c: c["post_processor"]["special_tokens"]["</s>"].update(ids=[9**9]), "post_proc"),
    ],
)
def test_another_tokenizer_is_refused(file: Path, change: Change, message: str) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_word_tokenizer(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "change",
    [{"padding": {"strategy": {"Fixed": 2**31}}}, {"truncation": {"max_length": 0}}],
)
def test_padding_and_cutting_are_ours(file: Path, change: dict[str, Any]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert len(read_word_tokenizer(file).encode("a red apple").ids) == 4


def test_words_that_are_no_text_are_refused(file: Path) -> None:
    for word in ("\ud800", "", "a" * 1001):
        content = json.loads(file.read_text())
        content["model"]["vocab"][word] = len(content["model"]["vocab"])
        file.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match="is not a word of at most 1000 characters"):
            read_word_tokenizer(file)


def test_what_is_cut_off_is_named_as_it_was_written(text: TextEncoder) -> None:
    """Seven words and the end token fit; what is left out is the eighth and all behind it."""
    assert text.length == 8
    kept = "a red apple and a blue car"
    assert text.left_out(kept) == ""
    assert text.left_out(f"{kept}, and a DOG") == ", and a DOG"
    whole, cut = text.tokenize([kept]), text.tokenize([f"{kept} and two dogs"])
    assert torch.equal(whole.ids, cut.ids)
    # Asking does not depend on what was asked before, though tokenize cuts.
    assert text.unknown_words(f"{kept} and a zebra") == ["zebra"]


@pytest.mark.parametrize(
    "mark",
    ["\ufeff", "\u200b", "\u00ad", "\u2060", "\u200e", "\u202e", "\ufe0f", "\0", "\x1b"],
)  # fmt: skip
def test_what_nobody_sees_changes_no_token(text: TextEncoder, mark: str) -> None:
    plain = text.tokenize(["a red apple"])
    for prompt in (f"{mark}a red apple", f"a re{mark}d apple", f"a red apple{mark}"):
        assert torch.equal(text.tokenize([prompt]).ids, plain.ids)
        assert text.unknown_words(prompt) == []
    learned = word_tokenizer([f"{mark}a red", "a re" + mark + "d"], JointTextConfig(vocabulary=9))
    assert set(learned.get_vocab()) == {"<pad>", "</s>", "<unk>", "a", "red"}


def test_what_is_seen_stays() -> None:
    for seen in ("a\tb\nc", "é e\u0301 \N{NO-BREAK SPACE}", "漢字 عربى", "🍎🏽", "<pad> \\n"):
        assert visible(seen) == seen

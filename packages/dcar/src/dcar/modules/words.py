"""The words of a small text encoder: a tokenizer learned from captions.

It reads words: lower-cased, punctuation apart, those of the training captions.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from dcar.config import JointTextConfig
from dcht.ranges import shown

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
MAX_WORD = 1000
"""Characters of the longest word that a vocabulary may hold."""


INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Characters that show nothing: byte order marks, zero-width ones, soft hyphens, marks of
the direction of writing, selectors of variants, tags, and control characters but white space."""


def visible(text: str) -> str:
    """A text without the characters that nobody sees: no image depends on them."""
    return INVISIBLE.sub("", text)


def word_tokenizer(captions: Iterable[str], config: JointTextConfig) -> tokenizers.Tokenizer:
    """A word-level tokenizer over the most frequent words of the captions.

    The same captions in any order give the same tokenizer.
    """
    ranked = by_frequency(count_words(captions, _tokenizer([])))
    return _tokenizer([PAD, END, UNKNOWN, *ranked][: config.vocabulary])


def restore_word_tokenizer(content: dict[str, Any]) -> tokenizers.Tokenizer:
    """The word-level tokenizer whose `tokenizer.json` holds this.

    Of the content only the words are taken, and all else must be what `word_tokenizer` makes of
    them: it may come from anyone, and a normalizer or a padding of its own could do anything to a
    prompt.

    Raises:
        ValueError: it is no such tokenizer.
    """
    tokenizer = _tokenizer(_words(content))
    ours = json.loads(tokenizer.to_str())
    content = {**content, "model": {**content["model"], "vocab": ours["model"]["vocab"]}}
    for part in ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor"):
        if content.get(part) != ours[part]:
            raise ValueError(f"its {part} is {shown(content.get(part))}, which dcar does not write")
    return tokenizer


def _words(content: dict[str, object]) -> list[str]:
    """The vocabulary of a `tokenizer.json`, in the order of its ids."""
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict):
        raise ValueError("it has no model.vocab")
    numbers = range(len(vocabulary))
    for word, number in vocabulary.items():
        if type(number) is not int or number not in numbers:
            raise ValueError(
                f"word {shown(word)} has id {shown(number)}; expected 0 to {len(vocabulary) - 1}"
            )
        if not 0 < len(word) <= MAX_WORD or any("\ud800" <= letter <= "\udfff" for letter in word):
            raise ValueError(f"{shown(word)} is not a word of at most {MAX_WORD} characters")
    words = sorted(vocabulary, key=lambda word: vocabulary[word])
    if len(set(vocabulary.values())) < len(words) or words[:3] != [PAD, END, UNKNOWN]:
        raise ValueError(f"its ids are not one a word, beginning with {PAD}, {END}, {UNKNOWN}")
    return words


def _tokenizer(words: Sequence[str]) -> tokenizers.Tokenizer:
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(numbers, UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([PAD, END, UNKNOWN])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, 1)]
    )
    return tokenizer


def count_words(captions: Iterable[str], tokenizer: tokenizers.Tokenizer) -> Counter[str]:
    """How often each word is in the captions, as the tokenizer splits them."""
    counts: Counter[str] = Counter()
    for caption, number in Counter(captions).items():
        normal = tokenizer.normalizer.normalize_str(visible(caption))
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal):
            counts[word] += number
    return counts


def by_frequency(counts: Counter[str]) -> list[str]:
    """Counted words, the most frequent first, equals in alphabetical order."""
    return sorted(counts, key=lambda word: (-counts[word], word))

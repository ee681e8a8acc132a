"""Notes for the user: on prompts, and on an image that another release made."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dcar.pipeline import TextToImage
from dcar.pipeline.safety import Screened
from dcar.pipeline.vocabulary import nearest, parts_of_names, vocabulary_of
from dcht.images import open_image, read_png_text

SHOWN_PROMPT = 60
"""Characters by which a line names a prompt."""


def prompt_notes(pipe: TextToImage, found: Screened, *, advice: str = "") -> list[str]:
    """A line each for what will not be as asked; none where all will.

    Other numbers and combinations than a checkpoint was trained on cannot be told from words.

    Args:
        pipe: what reads the prompts.
        found: the prompts after the safety check.
        advice: what to do about unknown words, a sentence or two.
    """
    lines = [
        f"prompt {number} was rejected ({verdict}); {found.prompts[number]!r} is generated instead"
        for number, verdict in enumerate(found.verdicts)
        if verdict is not None and verdict.rejected
    ]
    lines += [
        f"this checkpoint reads {pipe.text.length} tokens of a prompt; of {_beginning(prompt)} it "
        f"leaves out {_beginning(rest)}"
        for prompt, rest in left_out(pipe, found.prompts).items()
    ]
    known = vocabulary_of(pipe)
    if known is None:
        return lines
    unknown = [word for words in unknown_words(pipe, found.prompts).values() for word in words]
    if unknown:
        named = [
            repr(word) + (f" (near: {', '.join(near)})" if (near := nearest(word, known)) else "")
            for word in dict.fromkeys(unknown)
        ]
        things = str(known)
        lines.append(
            f"this checkpoint does not know {', '.join(named)}."
            + (f" It knows: {things}." if things else "")
            + (f" {advice}" if advice else "")
        )
    parts = {
        word: name
        for prompt in dict.fromkeys(found.prompts)
        for word, name in parts_of_names(prompt, known).items()
    }
    if parts:
        some = ", ".join(f"{word!r} in {name!r}" for word, name in parts.items())
        lines.append(f"this checkpoint knows {some}, and not alone")
    return lines


def _beginning(prompt: str) -> str:
    return repr(prompt if len(prompt) <= SHOWN_PROMPT else f"{prompt[:SHOWN_PROMPT]}...")


def left_out(pipe: TextToImage, prompts: Sequence[str]) -> dict[str, str]:
    """By prompt, the end that the checkpoint does not read; only prompts that are too long."""
    found = {prompt: pipe.text.left_out(prompt) for prompt in dict.fromkeys(prompts)}
    return {prompt: rest for prompt, rest in found.items() if rest}


def unknown_words(pipe: TextToImage, prompts: Sequence[str]) -> dict[str, list[str]]:
    """By prompt, the words that the checkpoint was not trained on; only prompts that have some."""
    found = {prompt: pipe.text.unknown_words(prompt) for prompt in dict.fromkeys(prompts)}
    return {prompt: words for prompt, words in found.items() if words}


def replay_notes(image: Path, again: Path) -> list[str]:
    """What is to be said of an image made again: nothing, if this release made it.

    Equal bytes are promised within a release; a later one may add in another order.
    """
    maker, ours = read_png_text(image).get("Software"), f"dcar {version('dcar')}"
    if maker == ours:
        return []
    pair = [np.asarray(open_image(path), dtype=np.int64) for path in (image, again)]
    return [
        f"{image} was made by {maker}, this is {ours}: equal bytes are promised within a "
        f"release; the largest difference of a value is {abs(pair[0] - pair[1]).max()} of 255"
    ]

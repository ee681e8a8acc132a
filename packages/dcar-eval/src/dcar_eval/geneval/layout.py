"""Folders of images as GenEval has them: anyone's model can be judged from one.

`00012/metadata.jsonl` is line 12 of the prompt file, `00012/samples/0000.png` to `0003.png` are its
images; the number's digits do not matter, nor does which format they have. Or a table pairs files
and prompts (`dcar_eval.given.pairs`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcar_eval.geneval.prompts import SAMPLES
from dcar_eval.given.pairs import find_pairs, numbered
from dcht.errors import UsageError
from dcht.files import read_json

METADATA = "metadata.jsonl"
RULES = ("tag", "include", "exclude")
"""The fields of a row that decide on a verdict; `prompt` may be a rewritten, longer text."""


class Sample(NamedTuple):
    """One image of one prompt."""

    prompt: int
    """Line of the prompt file, from 0."""
    name: str
    """Path in the folder of all images, with slashes."""


def samples_folder(prompt: int) -> str:
    """Where the images of a prompt are."""
    return f"{prompt:05d}/samples"


class Listed(NamedTuple):
    """What a folder holds of the prompts asked for."""

    samples: list[Sample]
    """By prompt, then by number."""
    rewritten: list[int]
    """Prompts whose text is not the benchmark's."""


def list_folder(folder: Path, rows: Sequence[dict[str, Any]], prompts: Sequence[int]) -> Listed:
    """Find the images of some prompts.

    Raises:
        UsageError: it is no folder of this layout, a prompt's folder is for another row, or a
            number is there twice.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; expected 00000/samples/0000.png in it")
    numbered = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    twice = [n for n, times in Counter(int(path.name) for path in numbered).items() if times > 1]
    if twice:
        raise UsageError(f"{folder} has two folders for prompt {twice[0]}; keep one")
    by_prompt = {int(path.name): path for path in numbered}
    if not by_prompt or max(by_prompt) >= len(rows):
        found = f"a folder {max(by_prompt)}" if by_prompt else "no folder named by a number"
        raise UsageError(f"{folder} has {found}; expected 00000 to {len(rows) - 1:05d}")
    samples, rewritten = [], []
    for prompt in prompts:
        if prompt not in by_prompt:
            continue
        place = by_prompt[prompt]
        if _read_row(place / METADATA, rows[prompt], prompt)["prompt"] != rows[prompt]["prompt"]:
            rewritten.append(prompt)
        samples += [Sample(prompt, f"{place.name}/samples/{name}") for name in _images(place)]
    return Listed(samples, rewritten)


def _read_row(path: Path, row: dict[str, Any], prompt: int) -> dict[str, Any]:
    try:
        found = read_json(path)
        if all(found.get(key) == row.get(key) for key in RULES) and "prompt" in found:
            return found
        problem = f"is not line {prompt} of the prompt file"
    except FileNotFoundError:
        problem = f"is not there; it is line {prompt} of the prompt file"
    except UsageError:
        problem = "is not a line of JSON"
    raise UsageError(f"{path} {problem} (python -m dcar_eval.geneval.prompts prints that)")


def _images(place: Path) -> list[str]:
    folder = place / "samples"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for _, name in sorted(numbered(folder, names).items())]


def list_table(table: Path, rows: Sequence[dict[str, Any]], prompts: Sequence[int]) -> Listed:
    """Find the images of some prompts in a table that pairs files and prompts.

    Raises:
        UsageError: it is none, or names none of the prompts.
    """
    texts = {str(prompt): rows[prompt]["prompt"] for prompt in prompts}
    images = find_pairs(table, texts).images
    return Listed([Sample(int(image.key), image.name) for image in images], [])


def missing(samples: Sequence[Sample], prompts: Sequence[int]) -> list[str]:
    """What is not there of four images for each prompt, in words."""
    counts = Counter(sample.prompt for sample in samples)
    return [
        f"{samples_folder(prompt)} has {counts[prompt]} of {SAMPLES} images"
        for prompt in prompts
        if counts[prompt] != SAMPLES
    ]

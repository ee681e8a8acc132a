"""GenEval's 553 prompts, sampled by its rule instead of read from a file.

The text is byte for byte the benchmark's `evaluation_metadata.jsonl` (djghosh13/geneval at
af4902f), whose SHA-256 is `SHA256`: `python -m dcar_eval.geneval.prompts` prints it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from dcar_eval.geneval.rules import COLORS, RELATIONS

SHA256 = "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""In the order of the file."""
SAMPLES = 4
"""Images of each prompt."""
CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "computer mouse", "tv remote",
    "computer keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 in the detectors' order; 64, 65 and 66 are COCO's mouse, remote and keyboard."""
SEED = 43
DRAWS = 100
"""Prompts sampled of each task but the first; equal ones are dropped."""
NUMBERS = ("zero", "one", "two", "three", "four")


def metadata() -> list[dict[str, Any]]:
    """The rows of the prompt file: `tag`, `include`, `exclude` (counting only), `prompt`."""
    rng = np.random.default_rng(SEED)
    sampled = (
        *_single_object(rng), *_two_object(rng), *_counting(rng), *_colors(rng), *_position(rng),
        *_color_attr(rng),
    )  # fmt: skip
    return list({json.dumps(row): row for row in sampled}.values())


def lines() -> list[str]:
    """The lines of the prompt file, without line ends; a prompt's folder holds its own."""
    return [json.dumps(row) for row in metadata()]


def sha256() -> str:
    """Hash of the prompt file that `lines` make."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines()).encode()).hexdigest()


def _single_object(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for thing in rng.choice(len(CLASSES), size=len(CLASSES), replace=False):
        yield _row("single_object", [_clause(thing)], _one(CLASSES[thing]))


def _two_object(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for _ in range(DRAWS):
        a, b = rng.choice(len(CLASSES), size=2, replace=False)
        things = f"{_one(CLASSES[a])} and {_one(CLASSES[b])}"
        yield _row("two_object", [_clause(a), _clause(b)], things)


def _counting(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for _ in range(DRAWS):
        thing, count = rng.choice(len(CLASSES)), int(rng.integers(2, 4, endpoint=True))
        row = _row("counting", [_clause(thing, count)], f"{NUMBERS[count]} {_many(CLASSES[thing])}")
        exclude = [{"class": CLASSES[thing], "count": count + 1}]
        yield {"tag": row["tag"], "include": row["include"], "exclude": exclude} | row


def _colors(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for _ in range(DRAWS):
        thing = rng.choice(len(CLASSES) - 1) + 1  # nobody is asked to paint a person
        color = COLORS[rng.choice(len(COLORS))]
        yield _row("colors", [_clause(thing) | {"color": color}], _one(f"{color} {CLASSES[thing]}"))


def _position(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for _ in range(DRAWS):
        subject, target = rng.choice(len(CLASSES), size=2, replace=False)
        relation = RELATIONS[rng.choice(len(RELATIONS))]
        include = [_clause(target), _clause(subject) | {"position": [relation, 0]}]
        yield _row(
            "position", include, f"{_one(CLASSES[subject])} {relation} {_one(CLASSES[target])}"
        )


def _color_attr(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for _ in range(DRAWS):
        things = rng.choice(len(CLASSES) - 1, size=2, replace=False) + 1
        colors = [COLORS[index] for index in rng.choice(len(COLORS), size=2, replace=False)]
        pairs = list(zip(things, colors, strict=True))
        include = [_clause(thing) | {"color": color} for thing, color in pairs]
        named = [_one(f"{color} {CLASSES[thing]}") for thing, color in pairs]
        yield _row("color_attr", include, " and ".join(named))


def _clause(thing: int, count: int = 1) -> dict[str, Any]:
    return {"class": CLASSES[thing], "count": count}


def _row(tag: str, include: list[dict[str, Any]], things: str) -> dict[str, Any]:
    return {"tag": tag, "include": include, "prompt": f"a photo of {things}"}


def _one(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def _many(thing: str) -> str:
    # As the benchmark has it: "benchs", "knifes", "sheeps".
    return f"{thing}es" if thing.endswith("s") else f"{thing}s"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lines())

"""The captions of images, or their classes, as rows of data give them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from dcht.data.labels import LABEL
from dcht.errors import UsageError


class Captions(NamedTuple):
    """The captions of n images."""

    texts: list[list[str]]
    """At least one for each image."""
    weights: dict[int, list[float]]
    """How likely each caption is, in proportion, for images whose captions are not all as likely;
    by the image's number."""

    def chosen(self, numbers: Sequence[int]) -> Captions:
        """Those of some images, in the order of `numbers`."""
        weights = {
            place: self.weights[number]
            for place, number in enumerate(numbers)
            if number in self.weights
        }
        return Captions([self.texts[number] for number in numbers], weights)


def read_captions(rows: Sequence[dict[str, Any]], root: object) -> Captions:
    """Take captions from rows: `caption`, or `captions` and perhaps `caption_weights`.

    Args:
        rows: one an image, with its name in `file`.
        root: where they come from, for messages.

    Raises:
        UsageError: an image has no caption, or weights that do not fit its captions.
    """
    found = Captions([], {})
    missing = []
    for number, row in enumerate(rows):
        texts: list[Any] = row.get("captions") or [row.get("caption")]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            missing.append(row["file"])
        found.texts.append(texts)
        if (weights := row.get("caption_weights")) is not None:
            found.weights[number] = _checked_weights(weights, texts, f"{root}: {row['file']}")
    if missing:
        raise UsageError(
            f"{root}: {len(missing)} of {len(rows)} images have no caption, for instance "
            f"{missing[0]}; put one in a .txt beside each image"
        )
    return found


def read_labels(rows: Sequence[dict[str, Any]], root: object) -> Captions:
    """The names of the images' classes in place of captions: the field `label` of each row.

    Args:
        rows: one an image, with its name in `file`.
        root: where they come from, for messages.

    Raises:
        UsageError: an image has no class.
    """
    labels = [row.get(LABEL) for row in rows]
    missing = [row["file"] for row, label in zip(rows, labels, strict=True) if not _names(label)]
    if missing:
        raise UsageError(
            f"{root}: {len(missing)} of {len(rows)} images have no class, for instance "
            f"{missing[0]}; expected a .cls beside each, a column label, or a folder a class"
        )
    return Captions([[str(label).strip()] for label in labels], {})


def _names(label: object) -> bool:
    """Whether a label is a number or a name."""
    number = isinstance(label, int) and not isinstance(label, bool) and label >= 0
    return number or (isinstance(label, str) and bool(label.strip()))


def name_a_side(texts: Sequence[str]) -> bool:
    """Whether a caption says left or right, and so is wrong of the mirrored image."""
    return any(re.search(r"\b(left|right)", text, re.IGNORECASE) for text in texts)


def side_note(root: object, count: int) -> list[str]:
    """The sentence on mirrored images that are left out, if there are any."""
    reason = "their captions say left or right"
    return [f"{root}: {count} images are not shown mirrored: {reason}"] if count else []


def _checked_weights(weights: Any, texts: list[Any], where: str) -> list[float]:
    good = (
        isinstance(weights, list)
        and len(weights) == len(texts)
        and all(isinstance(weight, int | float) and weight >= 0 for weight in weights)
        and sum(weights) > 0
    )
    if not good:
        raise UsageError(
            f"{where}: caption_weights {weights!r} should be {len(texts)} numbers, not negative, "
            "one for each of its captions"
        )
    return [float(weight) for weight in weights]

"""GenEval's decision rules (Ghosh et al. 2023): does what was detected show what was asked for?

Rules as in the reference implementation, in float32 as there: github.com/djghosh13/geneval,
`evaluate_images.py` at af4902f. Detections come from outside: nothing here loads a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from dcht.errors import UsageError

COLORS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white",
)  # fmt: skip
RELATIONS = ("left of", "right of", "above", "below")
NO_OFFSET = 1e-3
"""Reduced offsets below this many pixels, on both axes, count as none."""
DIRECTION = 0.5
"""Least share, exclusive, of the offset's length that lies along a relation's axis."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the reference lets its user set, with its defaults."""

    threshold: float = 0.3
    """Scores must be above it."""
    counting_threshold: float = 0.9
    """Takes its place for rows tagged `counting`."""
    max_objects: int = 16
    """Most detections of a class that are looked at."""
    max_overlap: float = 1.0
    """A detection whose IoU with a better one of its class reaches this is dropped; 1.0: none."""
    position_threshold: float = 0.1
    """Share of the two extents by which centers must differ at least."""

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Options:
        """Options by name; those that are not given keep the reference's defaults.

        Raises:
            UsageError: a name that is not known.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(row.keys() - set(known)):
            raise UsageError(f"option {unknown[0]!r} is not known; use {', '.join(known)}")
        return cls(**row)


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """One object that a detector found; the order of a list is the detector's own."""

    class_name: str
    score: float
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels, y down."""
    mask: np.ndarray | None = None
    """Its pixels, bool (H, W), for the classifier of its color."""
    color: str | Callable[[], str] | None = None
    """One of `COLORS`, or what classifies it when (and only if) the rules ask."""

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Detection:
        """Read `class`, `score`, `box` and, where there is one, `color`; ignore other keys.

        Raises:
            UsageError: a key is missing, or the box is not four numbers.
        """
        if missing := [key for key in ("class", "score", "box") if key not in row]:
            raise UsageError(f"a detection has no {missing[0]!r}: {dict(row)}")
        if len(row["box"]) != 4:
            raise UsageError(f"box {row['box']} is not [left, top, right, bottom]")
        left, top, right, bottom = (float(value) for value in row["box"])
        return cls(
            class_name=row["class"],
            score=float(row["score"]),
            box=(left, top, right, bottom),
            color=row.get("color"),
        )

    def classify_color(self) -> str:
        """The color's label.

        Raises:
            UsageError: this detection came without one.
        """
        if self.color is None:
            raise UsageError(f"a color is asked for, but the {self.class_name} found has none")
        return self.color if isinstance(self.color, str) else self.color()


class Verdict(NamedTuple):
    """Whether an image shows what its prompt says, and if not, why."""

    correct: bool
    reason: str
    """The reference's texts, one line a clause that failed; empty if correct."""
    details: dict[str, list[list[float]]]
    """Class to what was kept of it, best first: [left, top, right, bottom, score]."""


def evaluate_detections(
    metadata: Mapping[str, Any],
    detections: Sequence[Detection],
    options: Options = Options(),
) -> Verdict:
    """Judge one image.

    Every `include` clause must hold for the most confident detections of its class, and no
    `exclude` clause may. A clause gives one reason at most.

    Args:
        metadata: a row of the prompt file: `tag`, `include` [{`class`, `count`, `color`?,
            `position`? [relation, index of the target's clause]}], `exclude`? [{`class`, `count`}].
        detections: of all classes together, by GenEval's class names.
        options: thresholds and caps.

    Raises:
        UsageError: a color is asked for that a detection does not carry, or a position refers to
            a clause that has not come yet.
    """
    counting = metadata.get("tag") == "counting"
    threshold = options.counting_threshold if counting else options.threshold
    kept = {
        name: _keep([d for d in detections if d.class_name == name], threshold, options)
        for name in dict.fromkeys(detection.class_name for detection in detections)
    }
    reasons: list[str] = []
    # One entry a clause, also for those that fail, or `position` would point at another clause.
    groups: list[list[Detection] | None] = []
    for clause in metadata.get("include", []):
        found = kept.get(clause["class"], [])[: clause["count"]]
        miss = _miss(clause, found, groups, options)
        groups.append(found if miss is None else None)
        if miss is not None:
            reasons.append(miss)
    for clause in metadata.get("exclude", []):
        name, number = clause["class"], len(kept.get(clause["class"], []))
        if number >= clause["count"]:
            reasons.append(f"expected {name}<{clause['count']}, found {number}")
    details = {
        name: [np.array([*d.box, d.score], dtype=np.float32).tolist() for d in found]
        for name, found in kept.items()
        if found
    }
    return Verdict(not reasons, "\n".join(reasons), details)


def _keep(found: list[Detection], threshold: float, options: Options) -> list[Detection]:
    """The detections of one class that count, best first; of equal scores the later one first."""
    scores = np.array([detection.score for detection in found], dtype=np.float32)
    # In float32 on both sides: 0.3 as a Python float is below float32's 0.3, and would let it pass.
    order = [
        i for i in np.argsort(scores, kind="stable")[::-1] if scores[i] > np.float32(threshold)
    ]
    kept: list[Detection] = []
    for index in order[: options.max_objects]:
        rivals = kept if options.max_overlap != 1 else []
        limit = np.float32(options.max_overlap)
        if all(_iou(rival.box, found[index].box) < limit for rival in rivals):
            kept.append(found[index])
    return kept


def _miss(
    clause: Mapping[str, Any],
    found: list[Detection],
    groups: list[list[Detection] | None],
    options: Options,
) -> str | None:
    """Why `found` is not what the clause asks for, or None."""
    name, count, color = clause["class"], clause["count"], clause.get("color")
    if len(found) < count:
        return f"expected {name}>={count}, found {len(found)}"
    if color is not None:
        seen = [detection.classify_color() for detection in found]
        if seen.count(color) < count:
            listed = ", ".join(f"{seen.count(other)} {other}" for other in COLORS if other in seen)
            return (
                f"expected {color} {name}>={count}, found {seen.count(color)} {color}; and {listed}"
            )
    if clause.get("position") is not None:
        relation, index = clause["position"]
        if index >= len(groups):
            raise UsageError(
                f"{name} is placed by clause {index}, but only {len(groups)} come before it"
            )
        targets = groups[index]
        if targets is None:
            return f"no target for {name} to be {relation}"
        for subject in found:
            for target in targets:
                shown = relations(subject.box, target.box, options.position_threshold)
                if relation not in shown:
                    seen_here = " and ".join(shown)  # none: two spaces, as in the reference
                    return f"expected {name} {relation} target, found {seen_here} target"
    return None


def relations(
    subject: Sequence[float], target: Sequence[float], position_threshold: float = 0.1
) -> list[str]:
    """How `subject` lies to `target` (boxes: left, top, right, bottom): none, one or two relations.

    The offset of the centers is shortened by a share of both extents; what is left must be more
    than half as long, along an axis, as the whole offset.
    """
    boxes = np.array([subject, target], dtype=np.float32)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    extents = np.abs(boxes[:, 2:] - boxes[:, :2])
    offset = centers[0] - centers[1]
    beyond = np.maximum(np.abs(offset) - np.float32(position_threshold) * extents.sum(axis=0), 0)
    if (beyond < NO_OFFSET).all():
        return []
    x, y = beyond * np.sign(offset) / np.linalg.norm(offset)
    held = (x < -DIRECTION, x > DIRECTION, y < -DIRECTION, y > DIRECTION)
    return [relation for relation, holds in zip(RELATIONS, held, strict=True) if holds]


def _iou(first: Sequence[float], second: Sequence[float]) -> np.float32:
    """Intersection over union, where a box holds its last row and column of pixels too."""
    a, b = np.array([first, second], dtype=np.float32)

    def area(low: np.ndarray, high: np.ndarray) -> np.float32:
        width, height = np.maximum(high - low + 1, 0)
        return width * height

    shared = area(np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:]))
    union = area(a[:2], a[2:]) + area(b[:2], b[2:]) - shared
    return shared / union if union else np.float32(0)

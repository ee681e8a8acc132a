"""What an image must show: a scene as a row of GenEval's prompt file, with sizes; and the verdict.

All that is asked for must be there, so often and no oftener.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dcar_eval.geneval import Detection, Options, Verdict, evaluate_detections
from dcar_eval.hard.captions import captions
from dcar_eval.hard.grammar import Group, HardScene

LARGE = 0.36
"""Longest side of a box, as a share of the image, from which on an object is large."""


def metadata(scene: HardScene) -> dict[str, Any]:
    """`tag`, `include`, `exclude`, `prompt`; a clause may have a `size`."""
    clauses: list[dict[str, Any]] = []
    clause_of: dict[int, int] = {}
    subjects = {first for first, _, _ in scene.relations}
    for number, group in enumerate(scene.groups):
        if number not in subjects:
            clause_of[number] = len(clauses)
            clauses.append(_clause(group))
    # Subjects come after what they stand to; with two places, twice.
    clauses += [
        _clause(scene.groups[first]) | {"position": [relation, clause_of[second]]}
        for first, relation, second in scene.relations
    ]
    totals = Counter[str]()
    for group in scene.groups:
        totals[group.name] += group.count
    return {
        "tag": scene.task.value,
        "include": clauses,
        "exclude": [{"class": name, "count": total + 1} for name, total in totals.items()],
        "prompt": captions(scene)[0],
    }


def _clause(group: Group) -> dict[str, Any]:
    color = {"color": group.color} if group.color else {}
    size = {"size": group.size} if group.size else {}
    return {"class": group.name, "count": group.count} | color | size


def judge(
    row: Mapping[str, Any], detections: Sequence[Detection], options: Options, side: int
) -> Verdict:
    """GenEval's verdict, and whether sizes are right too.

    Args:
        row: of `metadata`.
        detections: in an image.
        options: thresholds.
        side: pixels a side of the image.
    """
    verdict = evaluate_detections(row, detections, options)
    reasons = [verdict.reason] if verdict.reason else []
    for clause in row["include"]:
        found = verdict.details.get(clause["class"], [])[: clause["count"]]
        sizes = ["large" if _longest(box) >= LARGE * side else "small" for box in found]
        if "size" in clause and sizes.count(clause["size"]) < len(sizes):
            shown = ", ".join(sizes)
            reasons.append(f"expected {clause['size']} {clause['class']}, found {shown}")
    return Verdict(not reasons, "\n".join(reasons), verdict.details)


def _longest(box: Sequence[float]) -> float:
    left, top, right, bottom, *_ = box
    return max(right - left, bottom - top)

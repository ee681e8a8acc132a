"""GenEval's decision rules against the reference implementation's own answers."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dcar_eval.geneval import Detection, Options, evaluate_detections

SHARED = Path(__file__).parents[2] / "shared" / "fixtures" / "geneval"
CASES = Path(os.environ.get("GENEVAL_FIXTURES", SHARED)) / "cases.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text().splitlines()] if CASES.exists() else []
pytestmark = pytest.mark.skipif(not ROWS, reason=f"no {CASES}")


def boxes_agree(ours: list[list[float]], theirs: list[list[float]]) -> bool:
    return len(ours) == len(theirs) and all(
        a == pytest.approx(b, abs=1e-4) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['id']}-{row['kind']}")
def test_case(row: dict[str, Any]) -> None:
    asked: list[int] = []

    def color_of(detection: dict[str, Any]) -> str:
        asked.append(detection["id"])
        return detection["color"]

    detections = [
        Detection.from_dict(entry | {"color": partial(color_of, entry)})
        for entry in row["detections"]
    ]
    expected = row["expected"]
    verdict = evaluate_detections(row["metadata"], detections, Options.from_dict(row["options"]))
    assert verdict.correct == expected["correct"]
    assert verdict.reason in expected["reason_variants"]
    assert verdict.details.keys() == expected["details"].keys()
    for name, boxes in expected["details"].items():
        ours = verdict.details[name]
        if row["flags"]["tie_order_changes_details"]:
            ours, boxes = sorted(ours), sorted(boxes)
        assert boxes_agree(ours, boxes), name
    calls = [number for call in expected["color_calls"] for number in call["detection_ids"]]
    assert asked == calls
    # The label itself does as well as what gives it.
    labeled = [Detection.from_dict(entry) for entry in row["detections"]]
    again = evaluate_detections(row["metadata"], labeled, Options.from_dict(row["options"]))
    assert again == verdict

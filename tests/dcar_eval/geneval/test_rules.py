"""GenEval's rules on cases worked out by hand, and what is refused."""

from typing import Any

import numpy as np
import pytest

from dcar_eval.geneval import COLORS, Detection, Options, evaluate_detections, relations
from dcar_eval.scenes.world import COLORS as SCENE_COLORS
from dcar_eval.scenes.world import RELATIONS
from dcht.errors import UsageError


def found(name: str, score: float, x: float = 0, y: float = 0, **fields: Any) -> Detection:
    return Detection(class_name=name, score=score, box=(x, y, x + 20, y + 20), **fields)


def asks(tag: str = "custom", **clauses: Any) -> dict[str, Any]:
    return {"tag": tag, "prompt": "p"} | clauses


def test_the_world_of_scenes_has_the_same_colors() -> None:
    assert tuple(SCENE_COLORS) == COLORS
    assert set(RELATIONS) == {"left of", "right of", "above", "below"}


@pytest.mark.parametrize("score", [0.3, float(np.float32(0.3))])
def test_a_score_at_the_threshold_is_not_above_it(score: float) -> None:
    row = asks(include=[{"class": "cat", "count": 1}])
    verdict = evaluate_detections(row, [found("cat", score)])
    assert not verdict.correct
    assert verdict.reason == "expected cat>=1, found 0"
    above = float(np.nextafter(np.float32(0.3), np.float32(1)))
    assert evaluate_detections(row, [found("cat", above)]) == (
        True, "", {"cat": [[0, 0, 20, 20, pytest.approx(above)]]},
    )  # fmt: skip


def test_counting_is_exact_and_asks_for_more_certainty() -> None:
    row = asks(
        "counting", include=[{"class": "cat", "count": 2}], exclude=[{"class": "cat", "count": 3}]
    )
    cats = [found("cat", 0.95, x) for x in (0, 50, 100)]
    assert evaluate_detections(row, cats[:2]).correct
    assert evaluate_detections(row, cats).reason == "expected cat<3, found 3"
    unsure = [*cats[:2], found("cat", 0.9, 100)]
    assert evaluate_detections(row, unsure).correct


def test_overlap_has_pixels_at_both_ends() -> None:
    """Boxes [0, 9] and [5, 14] share 5 of 15 columns: IoU 1/3, dropped at 1/3, kept above."""
    pair = [
        Detection(class_name="cat", score=0.9, box=(0, 0, 9, 9)),
        Detection(class_name="cat", score=0.8, box=(5, 0, 14, 9)),
    ]
    for limit, number in ((1 / 3, 1), (0.34, 2), (1.0, 2)):
        verdict = evaluate_detections(asks(), pair, Options(max_overlap=limit))
        assert len(verdict.details["cat"]) == number


def test_only_the_best_are_asked_for_their_color() -> None:
    row = asks(include=[{"class": "car", "count": 1, "color": "blue"}])
    calls: list[str] = []

    def color(label: str) -> str:
        calls.append(label)
        return label

    cars = [
        found("car", 0.8, color=lambda: color("blue")),
        found("car", 0.9, 50, color=lambda: color("red")),
    ]
    verdict = evaluate_detections(row, cars)
    assert verdict.reason == "expected blue car>=1, found 0 blue; and 1 red"
    assert calls == ["red"]


def test_a_failed_clause_keeps_its_place() -> None:
    """The third clause is placed by the second, although the first one failed."""
    include = [
        {"class": "cow", "count": 1},
        {"class": "cat", "count": 1},
        {"class": "dog", "count": 1, "position": ["left of", 1]},
    ]
    pets = [found("cat", 0.9, 100), found("dog", 0.9, 0)]
    assert evaluate_detections(asks(include=include), pets).reason == "expected cow>=1, found 0"
    include[2]["position"] = ["left of", 0]
    reason = evaluate_detections(asks(include=include), pets).reason
    assert reason == "expected cow>=1, found 0\nno target for dog to be left of"


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (-50, 0, ["left of"]),
        (50, 0, ["right of"]),
        (0, -50, ["above"]),
        (0, 50, ["below"]),
        (-50, 50, ["left of", "below"]),
        (0, 0, []),
        (4, 0, []),  # a tenth of both widths: nothing is left
        (8, 0, []),  # what is left is half the offset, not more
        (9, 0, ["right of"]),
    ],
)
def test_relations(x: float, y: float, expected: list[str]) -> None:
    assert relations((x, y, x + 20, y + 20), (0, 0, 20, 20)) == expected


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="option 'treshold' is not known; use threshold"):
        Options.from_dict({"treshold": 0.5})
    with pytest.raises(UsageError, match="no 'score'"):
        Detection.from_dict({"class": "cat", "box": [0, 0, 1, 1]})
    with pytest.raises(UsageError, match=r"box \[0, 1\] is not"):
        Detection.from_dict({"class": "cat", "score": 1, "box": [0, 1]})
    color = asks(include=[{"class": "cat", "count": 1, "color": "red"}])
    with pytest.raises(UsageError, match="the cat found has none"):
        evaluate_detections(color, [found("cat", 0.9)])
    ahead = asks(include=[{"class": "cat", "count": 1, "position": ["above", 1]}])
    with pytest.raises(UsageError, match="only 0 come before it"):
        evaluate_detections(ahead, [found("cat", 0.9)])

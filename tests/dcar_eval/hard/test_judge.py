"""What a prompt asks for, and what is wrong with an image."""

import pytest

from dcar_eval.geneval import Detection, Options
from dcar_eval.hard.grammar import Group, HardScene, HardTask
from dcar_eval.hard.judge import judge, metadata

OPTIONS = Options()


def seen(name: str, box: tuple[float, ...], color: str = "red") -> Detection:
    return Detection.from_dict({"class": name, "score": 0.9, "box": box, "color": color})


def test_no_more_and_no_less_than_was_asked_for() -> None:
    groups = Group(name="apple", count=2, color="red"), Group(name="car", color="blue")
    row = metadata(HardScene(task=HardTask.COLORED_GROUPS, groups=groups))
    assert row["exclude"] == [{"class": "apple", "count": 3}, {"class": "car", "count": 2}]
    right = [
        seen("apple", (0, 0, 50, 50)), seen("apple", (100, 0, 150, 50)),
        seen("car", (0, 100, 50, 150), "blue"),
    ]  # fmt: skip
    assert judge(row, right, OPTIONS, 256).correct
    assert judge(row, right[1:], OPTIONS, 256).reason == "expected apple>=2, found 1"
    more = [*right, seen("car", (200, 200, 250, 250), "blue")]
    assert judge(row, more, OPTIONS, 256).reason == "expected car<2, found 2"
    assert (
        "expected blue car"
        in judge(row, [*right[:2], seen("car", (0, 9, 9, 99))], OPTIONS, 256).reason
    )


@pytest.mark.parametrize(("side", "size"), [(256, "large"), (512, "small")])
def test_a_size_is_a_share_of_the_image(side: int, size: str) -> None:
    for asked in ("large", "small"):
        group = Group(name="dog", size=asked)
        row = metadata(HardScene(task=HardTask.ONE, groups=(group,)))
        verdict = judge(row, [seen("dog", (10, 10, 60, 110))], OPTIONS, side)
        assert verdict.correct == (asked == size)
        assert verdict.correct or verdict.reason == f"expected {asked} dog, found {size}"


def test_both_places_of_one_object_must_be_right() -> None:
    groups = Group(name="cat"), Group(name="dog"), Group(name="car")
    row = metadata(
        HardScene(
            task=HardTask.RELATIONS, groups=groups, relations=((0, "left of", 1), (0, "above", 2))
        )
    )
    cat, dog = seen("cat", (0, 0, 50, 50)), seen("dog", (150, 0, 200, 50))
    below, above = seen("car", (0, 150, 50, 200)), seen("car", (0, -150, 50, -100))
    assert judge(row, [cat, dog, below], OPTIONS, 256).correct
    assert judge(row, [cat, dog, above], OPTIONS, 256).reason == (
        "expected cat above target, found below target"
    )

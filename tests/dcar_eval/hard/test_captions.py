"""Sentences of the harder grammar, as people would write them."""

import pytest

from dcar_eval.hard.captions import captions
from dcar_eval.hard.grammar import Group, HardScene, HardTask

APPLES, CAR = Group(name="apple", count=2, color="red"), Group(name="car", color="blue")
CAT, DOG, SKIS = Group(name="cat"), Group(name="dog"), Group(name="scissors")


def written(
    *groups: Group, relations: tuple[tuple[int, str, int], ...] = (), style: str = "3d"
) -> list[str]:
    return captions(HardScene(task=HardTask.FREE, groups=groups, relations=relations, style=style))


def test_groups() -> None:
    texts = written(APPLES, CAR)
    assert texts[0] == "a photo of two red apples and a blue car"
    assert "a blue car and two red apples" in texts
    assert "2 red apples and a blue car" in texts
    assert "two red apples, blue car" in texts
    assert written(Group(name="orange", count=6))[0] == "a photo of six oranges"
    assert written(Group(name="elephant"))[0] == "a photo of an elephant"


def test_sizes_come_before_colors() -> None:
    texts = written(
        Group(name="dog", size="large", color="orange"), Group(name="cat", size="small")
    )
    assert texts[0] == "a photo of a large orange dog and a small cat"
    assert "a big orange dog and a small cat" in texts
    assert "a large orange dog and a little cat" in texts


def test_two_places_of_one_object() -> None:
    texts = written(CAT, DOG, SKIS, relations=((0, "left of", 1), (0, "above", 2)))
    assert texts[0] == "a photo of a cat left of a dog and above scissors"
    assert "a cat above scissors and left of a dog" in texts
    assert "a dog right of a cat and scissors below the cat" in texts


def test_two_objects_by_one() -> None:
    texts = written(CAT, DOG, SKIS, relations=((0, "left of", 1), (2, "above", 1)))
    assert texts[0] == "a photo of a cat left of a dog and scissors above the dog"
    assert "a dog right of a cat and below scissors" in texts


@pytest.mark.parametrize("style", ["noto", "flat"])
def test_another_style_is_always_said(style: str) -> None:
    assert all(text.endswith(f" in {style} style") for text in written(CAT, style=style))
    assert written(CAT)[0] == "a photo of a cat"
    assert written(CAT)[-1] == "a cat in 3d style"


def test_no_wording_twice() -> None:
    for texts in (written(APPLES, CAR), written(CAT), written(CAT, DOG, SKIS)):
        assert len(set(texts)) == len(texts)

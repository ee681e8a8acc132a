"""Soft-TIFA and DPG-Bench's rules: known answers, computed here by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from dcar_eval.vqa.dpg import read_dpg, with_dependencies
from dcar_eval.vqa.intervals import group_means, measure
from dcar_eval.vqa.questions import Answer, Question
from dcar_eval.vqa.soft_tifa import (
    arithmetic_mean,
    geometric_mean,
    git_blob,
    read_geneval2,
    summarize,
)
from dcht import UsageError


def test_the_two_means() -> None:
    assert arithmetic_mean([0.5, 1.0, 0.25]) == pytest.approx(1.75 / 3)
    assert geometric_mean([0.5, 1.0, 0.25]) == pytest.approx(0.125 ** (1 / 3))
    assert geometric_mean([1.0, 0.0, 1.0]) == 0.0, "one atom that is wrong makes a prompt wrong"
    assert geometric_mean([1e-200] * 3) == pytest.approx(1e-200), "a product would be 0"
    assert geometric_mean([0.7]) == pytest.approx(0.7)


def test_soft_tifa_by_prompt_skill_and_atomicity(geneval2_file: Path) -> None:
    benchmark = read_geneval2(geneval2_file)
    first, second = benchmark.items
    assert first.questions[0].text == ("How many cars are in the image? Answer in one word.")
    assert (first.key, second.key, second.prompt) == ("00000", "00001", "a dog on a mat")
    answers = {
        "00000": [0.2, 0.8, 1.0],
        "00001": [0.5, 0.5, 0.5],
    }
    images = [
        (item, benchmark.score(item, [Answer(p, p > 0.5) for p in answers[item.key]]))
        for item in benchmark.items
    ]
    found = benchmark.summarize(images)
    am, gm = 2 / 3, (0.16) ** (1 / 3)
    assert found["am"].value == pytest.approx((am + 0.5) / 2)
    assert found["gm"].value == pytest.approx((gm + 0.5) / 2)
    assert {name: m.value for name, m in found["skills"].items()} == pytest.approx(
        {"count": 0.35, "attribute": 0.8, "object": 0.75, "position": 0.5}
    )
    assert {name: m.value for name, m in found["atomicity"].items()} == pytest.approx(
        {"3": gm, "4": 0.5}
    )
    assert found["skills"]["count"].n == 2
    # Two images of a prompt count as one prompt.
    again = benchmark.score(first, [Answer(1.0, True)] * 3)
    twice = summarize([*images, (first, again)])
    assert twice["am"].value == pytest.approx(((am + 1) / 2 + 0.5) / 2)
    assert twice["am"].n == 2


def test_intervals_are_over_prompts() -> None:
    """Of equal numbers they are a point; those of one prompt are drawn together."""
    assert measure([("a", 0.25), ("b", 0.25)])[:3] == (0.25, 0.25, 0.25)
    assert measure([("a", 0.0), ("a", 1.0)])[:3] == (0.5, 0.5, 0.5)
    found = measure([(str(k), float(k % 2)) for k in range(400)])
    assert found.value == 0.5 and found.n == 400
    spread = 1.96 * 0.5 / math.sqrt(400)
    assert (found.high - found.low) / 2 == pytest.approx(spread, rel=0.05)
    assert measure([(str(k), float(k % 2)) for k in range(400)]) == found, "a seed of its own"
    assert group_means([("a", 1.0), ("b", 0.0), ("a", 0.0)]) == [("a", 0.5), ("b", 0.0)]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1]),
        ([0, 1, 1, 1], [0, 0, 0, 1]),  # no car: its color and its place do not count
        ([1, 0, 1, 1], [1, 0, 0, 1]),  # one of two parents is enough
        ([1, 1, 0, 0], [1, 1, 0, 0]),
    ],
)
def test_what_depends_on_a_no_scores_nothing(answers: list[int], expected: list[int]) -> None:
    assert with_dependencies([1, 2, 3, 4], [[], [1], [1, 2], []], answers) == expected


def test_odd_dependencies_end() -> None:
    """On itself, in a circle, on what is not there, before its parent: one pass, in order."""
    assert with_dependencies([1], [[1]], [1]) == [1]
    assert with_dependencies([1, 2], [[2], [1]], [1, 1]) == [1, 1]
    assert with_dependencies([1, 2], [[2], [1]], [1, 0]) == [0, 0]
    assert with_dependencies([1, 2], [[], [7]], [0, 1]) == [0, 1]
    # A chain: what is not there takes all below it along.
    assert with_dependencies([1, 2, 3], [[], [1], [2]], [0, 1, 1]) == [0, 0, 0]


def test_dpg_by_image_prompt_and_category(dpg_file: Path) -> None:
    benchmark = read_dpg(dpg_file)
    car, _ = benchmark.items
    assert (car.key, car.prompt, len(car.questions)) == ("p1", "a red car, parked", 4)
    assert car.questions[0] == Question("Is there a car? Answer yes or no.", "yes")
    said = {"p1": [[1, 0, 1, 1], [0, 1, 1, 1]], "p2": [[1, 1]]}
    images = [
        (item, benchmark.score(item, [Answer(a * 0.8, bool(a)) for a in answers]))
        for item in benchmark.items
        for answers in said[item.key]
    ]
    assert [row["scores"] for _, row in images] == [[1, 0, 0, 1], [0, 0, 0, 1], [1, 1]]
    found = benchmark.summarize(images)
    assert found["score"].value == pytest.approx(((0.5 + 0.25) / 2 + 1.0) / 2)
    # Categories are of the answers themselves, and of every image.
    assert {name: m.value for name, m in found["L1"].items()} == pytest.approx(
        {"entity": 2 / 3, "attribute": 3 / 4, "global": 1.0, "other": 1.0}
    )
    assert {name: m.value for name, m in found["L2"].items()} == pytest.approx(
        {
            "entity - whole": 2 / 3,
            "attribute - color": 1 / 2,
            "attribute - other": 1.0,
            "global": 1.0,
            "other - count": 1.0,
        }
    )


def test_right_answers_are_spelled_as_models_spell() -> None:
    assert Question("", "three").spellings() == [
        "three", "Three", "3", " three", " Three", " 3",
    ]  # fmt: skip
    assert Question("", "Yes").spellings() == ["Yes", "yes", " Yes", " yes"]


def test_the_published_file_is_known_by_gits_name() -> None:
    """`git hash-object` of a file that holds a newline alone, and of an empty one."""
    assert git_blob(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_blob(b"\n") == "8b137891791fe96927ad78e64b0aad7bded08bdc"


Damage = Callable[[list[dict]], None]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: rows.clear(), "holds no prompts"),
        (lambda rows: rows[0].pop("skills"), "line 1 has not as many skills as questions"),
        (lambda rows: rows[1]["skills"].pop(), "line 2 has not as many skills as questions"),
        (lambda rows: rows[1].update(atom_count="three"), "line 2 has no prompt with its atom"),
        (lambda rows: rows[0]["vqa_list"].__setitem__(0, ["q"]), "vqa_list holds no pairs"),
        (lambda rows: rows[1].update(prompt=rows[0]["prompt"]), "has a prompt twice"),
    ],
)
def test_a_damaged_geneval2_file_is_one_line(
    geneval2_file: Path, damage: Damage, message: str
) -> None:
    rows = [json.loads(line) for line in geneval2_file.read_text().splitlines()]
    damage(rows)
    geneval2_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match=message) as caught:
        read_geneval2(geneval2_file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("proposition_id", "number", "has no column proposition_id"),
        (',1,0,entity,whole,entity - whole (car)', ',x,0,entity,whole,entity - whole (car)',
         "line 2: proposition_id and dependency are 'x' and '0'"),
        ('"1,2"', '"1,b"', "dependency are '3' and '1,b'"),
        ("p2,two dogs,,2,1,", "p2,two dogs,,1,1,", "p2 has question 1 twice"),
        ("p2,", "../p2,", "is no name of a file"),
        ("p1,\"a red car, parked\",,4,0,global,,global - (photo),Is this a photo?\n", "p1,a\n",
         "line 5 has fewer fields"),
    ],
)  # fmt: skip
def test_a_damaged_dpg_file_is_one_line(dpg_file: Path, old: str, new: str, message: str) -> None:
    text = dpg_file.read_text()
    assert old in text
    dpg_file.write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=message.replace("(", r"\(")) as caught:
        read_dpg(dpg_file)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.jsonl is not there; it is geneval2_data\.jsonl of"):
        read_geneval2(tmp_path / "no.jsonl")
    with pytest.raises(UsageError, match=r"no\.csv is not there; it is dpg_bench/dpg_bench\.csv"):
        read_dpg(tmp_path / "no.csv")

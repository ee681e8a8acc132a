"""Sampling settings as words."""

import pytest

from dcar_eval.sweep.axes import label, parse_axes, points, single_values
from dcht.errors import UsageError


def test_each_setting_has_its_kind() -> None:
    axes = parse_axes(
        ["num_steps=4,8", "cfg_scale=0,2.5", "order=halton", "extra_pass=on,off", "fts=none,norm",
         "confidence_temperature=none,1", "preset=gtr-8", "residual=off"]
    )  # fmt: skip
    assert axes == {
        "num_steps": [4, 8],
        "cfg_scale": [0.0, 2.5],
        "order": ["halton"],
        "extra_pass": [True, False],
        "fts": [None, "norm"],
        "confidence_temperature": [None, 1.0],
        "preset": ["gtr-8"],
        "residual": [False],
    }
    for key, values in axes.items():
        words = f"{key}={','.join(map(label, values))}"
        assert parse_axes([words]) == {key: values}


def test_every_combination_the_last_axis_fastest() -> None:
    found = points({"num_steps": [4, 8], "order": ["random", "gtr"]})
    assert [tuple(point.values()) for point in found] == [
        (4, "random"), (4, "gtr"), (8, "random"), (8, "gtr"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["steps=4"], "setting 'steps' is not known; use num_steps, "),
        (["stage_steps=4"], "setting 'stage_steps' is not known"),
        (["num_steps"], "'num_steps' is not KEY=VALUE"),
        (["num_steps=4", "num_steps=8"], "'num_steps=8' comes twice"),
        (["num_steps=4.5"], "num_steps '4.5' is not a whole number"),
        (["cfg_scale=much"], "cfg_scale 'much' is not a number"),
        (["cfg_scale=none"], "cfg_scale 'none' is not a number"),
        (["order=spiral"], "order 'spiral' is not known; use confidence, random, halton, gtr"),
        (["extra_pass=1"], "extra_pass '1' is not on or off"),
        (["preset=best"], "preset 'best' is not known; use paper"),
    ],
)
def test_what_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        parse_axes(words)


def test_one_value_where_one_is_meant() -> None:
    assert single_values(["num_steps=4"]) == {"num_steps": 4}
    with pytest.raises(UsageError, match="num_steps has 2 values here; give one"):
        single_values(["num_steps=4,8"])

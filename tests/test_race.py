"""The race's arithmetic, on parts whose seconds are known; and what `make bench` names."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import torch

RACE = Path(__file__).parents[1] / "benchmarks" / "speed" / "race.py"


@pytest.fixture(scope="module")
def race():
    spec = importlib.util.spec_from_file_location("race", RACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatched = pytest.MonkeyPatch()
    monkeypatched.setitem(sys.modules, "race", module)  # dataclasses look for it there
    spec.loader.exec_module(module)
    yield module
    monkeypatched.undo()


def test_the_fastest_round_of_each_part_is_multiplied_and_added(race, monkeypatch):
    monkeypatch.setattr(race, "cpu_seconds", lambda run: (run() or 0, 1.0))
    # Each part twice a round.
    seconds = iter([9.0, 4.0, 1.0, 5.0, 10.0, 12.0, 2.0, 7.0, 6.0, 3.0, 8.0, 9.0])
    parts = {
        "step": race.Part(lambda: next(seconds), {"dcar-paper": 12, "dcar-gtr-6": 6}, divide=2),
        "decoder": race.Part(lambda: next(seconds), {"dcar-paper": 1, "dcar-gtr-6": 1}),
        "sana step": race.Part(lambda: next(seconds), {"sana": 20}),
    }
    setting = race.Setting(512, 1, 300, torch.float32, torch.device("cpu"), False, False)
    race.time_parts(parts, rounds=2, setting=setting)
    found = race.summarize(parts, setting)
    # A step takes 2 / 2 s, the decoder 1 s, Sana's step 8 s.
    assert found["totals"] == {"dcar-paper": 13.0, "dcar-gtr-6": 7.0, "sana": 160.0}
    assert found["ratios"] == {
        "sana/dcar-paper": pytest.approx(160 / 13),
        "sana/dcar-gtr-6": pytest.approx(160 / 7),
    }
    assert set(found) == {"setting", "parts", "totals", "ratios"}


def test_an_entrant_with_the_light_decoder_pays_for_that_and_not_for_the_large_one(race):
    parts = {
        "dcar step": race.Part(None, {"dcar-paper": 12, "dcar-gtr-6": 6}, seconds=[1.0]),
        "dcar decoder": race.Part(None, {"dcar-paper": 1, "dcar-gtr-6": 1}, seconds=[28.0]),
        "dcar light decoder": race.Part(None, {}, seconds=[2.0]),
    }
    for part in parts.values():
        part.wall = part.seconds
    setting = race.Setting(512, 1, 300, torch.float32, torch.device("cpu"), False, False)
    totals = race.summarize(race.with_light(parts), setting)["totals"]
    assert totals == {
        "dcar-paper": 40.0, "dcar-gtr-6": 34.0, "dcar-paper+light": 14.0, "dcar-gtr-6+light": 8.0,
    }  # fmt: skip


def test_a_ratio_that_fell_by_more_than_a_tenth_is_named():
    path = RACE.with_name("conftest.py")
    spec = importlib.util.spec_from_file_location("bench_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ratios = {"same": 1.0, "a tenth": 0.9, "more": 0.89, "faster": 2.0, "new": 0.1}
    recorded = {"same": 1.0, "a tenth": 1.0, "more": 1.0, "faster": 1.0, "gone": 3.0}
    assert module.fallen(ratios, recorded) == ["more"]


def test_the_page_shows_the_recorded_ratios():
    recorded = json.loads((RACE.parent / "results" / "ratios.json").read_text())
    page = (RACE.parents[2] / "docs" / "speed.md").read_text()
    rows = dict(re.findall(r"^\| `(bench_[^`]+)` \|.*\| ([\d.]+) \|$", page, re.MULTILINE))
    assert rows == {name: f"{ratio:.2f}" for name, ratio in recorded.items()}

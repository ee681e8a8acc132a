"""The paper in miniature: what the page shows is what the committed results say."""

import json
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RESULTS))
    return import_module("miniature")


def test_the_tables_of_the_page_are_those_of_the_committed_results(miniature: ModuleType) -> None:
    page = miniature.PAGE.read_text()
    assert miniature.with_tables(page) == page
    places = re.findall(r"<!-- (\w+) -->", page)
    assert sorted(name for name in places if name != "end") == sorted(miniature.RESULTS)
    assert places[1::2] == ["end"] * len(miniature.RESULTS)


def test_a_result_says_what_made_it(miniature: ModuleType) -> None:
    committed = sorted(RESULTS.glob("*.json"))
    assert {path.stem for path in committed} <= set(miniature.RESULTS)
    for path in committed:
        result = json.loads(path.read_text())
        assert result["result"] == path.stem
        assert result["commands"]
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", result["commit"])
        assert result["rows"]


def test_every_result_can_be_drawn(miniature: ModuleType) -> None:
    for name, module in miniature.RESULTS.items():
        if result := miniature.result_files.read(name):
            assert module.draw(result).axes


def points(solver: str, **settings: Any) -> dict[str, Any]:
    return {
        "settings": {"order": "gtr", "num_steps": 4, "solver": solver, **settings},
        "overall": 0.5,
        "stderr": 0.03,
        "n": 48,
        "flops": {"transformer": 2 * 10**9, "decoder": 10**9},
    }


def test_seeds_narrow_an_error_and_settings_at_one_seed_do_not(
    miniature: ModuleType, tmp_path: Path
) -> None:
    """Two seeds of independent pictures: 0.03 / sqrt(2). Solvers draw the same scenes: 0.03."""
    for seed in (0, 1):
        folder = tmp_path / f"steps-{seed}"
        folder.mkdir()
        settings = {"weights": "w", "objects": ["a"], "num_per_task": 8, "size": 64, "seed": seed}
        found = {"settings": settings, "points": [points("ddpm"), points("ddim")]}
        (folder / "results.json").write_text(json.dumps(found))
    sweeps = miniature.sweeps
    rows = sweeps.gather(tmp_path)["rows"]
    assert len(rows) == 4
    (mean,) = sweeps.means(rows, "order").values()
    assert mean.error == pytest.approx(0.03 / 2**0.5)
    assert mean.gflop == 3
    first = [row for row in rows if row["seed"] == 0]
    (mean,) = sweeps.means(first, "order").values()
    assert mean.error == pytest.approx(0.03)


def test_equal_cost_gives_the_head_s_share_to_more_steps(miniature: ModuleType) -> None:
    flops = {"text": 1, "transformer": 9, "head": 2, "decoder": 100}
    assert miniature.table4.equal_steps({"flops": flops}, 800) == 960

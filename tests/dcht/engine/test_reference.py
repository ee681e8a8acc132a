"""A run's curves beside the reference: the same agree, others are named, and strangers refused."""

import json
from pathlib import Path

import pytest

from dcht.engine.reference import Reference, compare_curves, find_reference, load_references
from dcht.errors import UsageError

SETTINGS = {
    "out": "a",
    "batch_size": 8,
    "optimizer": {"lr": 0.1},
    "data": {"root": "x", "size": 64, "mixture": [{"root": "z", "weight": 1}]},
}
ROWS = [{"step": step, "loss": 2.0 - step / 10, "lr": 0.1} for step in (0, 5, 10)]


@pytest.fixture
def reference() -> Reference:
    return Reference(experiment="tiny", data="images", settings=SETTINGS, rows=ROWS)


def run_of(folder: Path, settings: dict, rows: list[dict]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_run_elsewhere_agrees_and_one_that_does_not_learn_differs(
    reference: Reference, tmp_path: Path
) -> None:
    data = {"root": "y", "size": 64, "mixture": [{"root": "v", "weight": 1}]}
    elsewhere = SETTINGS | {"out": "b", "data": data}
    same = run_of(tmp_path / "same", elsewhere, [row | {"lr": 7.0} for row in ROWS])
    assert find_reference(same, [reference]) is reference
    (found,) = compare_curves(same, reference)
    assert (found.name, found.share, found.agrees) == ("loss", 0, True)
    flat = run_of(tmp_path / "flat", SETTINGS, [row | {"loss": 2.0} for row in ROWS])
    (found,) = compare_curves(flat, reference)
    assert (found.step, found.share, found.agrees) == (10, 1.0, False)
    assert str(found).split(maxsplit=1)[1] == (
        "differs: at worst 2 for 1, 100% of the curve's span, at step 10"
    )
    near = run_of(tmp_path / "near", SETTINGS, [row | {"loss": row["loss"] + 0.05} for row in ROWS])
    assert compare_curves(near, reference)[0].agrees


def test_a_run_of_other_settings_is_refused_by_their_names(
    reference: Reference, tmp_path: Path
) -> None:
    other = run_of(tmp_path / "other", SETTINGS | {"optimizer": {"lr": 0.2}}, ROWS)
    with pytest.raises(UsageError, match=r"\+experiment=tiny are nearest.*optimizer.lr"):
        find_reference(other, [reference])
    data = {"root": "x", "size": 64, "mixture": [{"root": "z", "weight": 2}]}
    mixed = run_of(tmp_path / "mixed", SETTINGS | {"data": data}, ROWS)
    with pytest.raises(UsageError, match=r"differ in data\.mixture\.weight$"):
        find_reference(mixed, [reference])
    with pytest.raises(UsageError, match="is not a run"):
        find_reference(tmp_path, [reference])
    late = run_of(tmp_path / "late", SETTINGS, [{"step": 99, "loss": 1.0}])
    with pytest.raises(UsageError, match="no logged step in common"):
        compare_curves(late, reference)


@pytest.mark.parametrize("package", ["dcht", "dcar"])
def test_the_committed_references_agree_with_themselves(package: str, tmp_path: Path) -> None:
    references = load_references(package)
    assert references
    for reference in references:
        run = run_of(tmp_path / reference.experiment, reference.settings, reference.rows)
        assert find_reference(run, references) is reference
        assert all(found.share == 0 for found in compare_curves(run, reference))
        assert "root" not in json.dumps(reference.settings) or "/tmp" not in str(reference.settings)

"""A journal goes on where it was left, and only if what it counts on is what was written."""

import json
from pathlib import Path

import numpy as np
import pytest

from dcar_eval.runs.journal import ERRORS, ROWS, STATE, Journal, features_file, forget, read_state
from dcht.errors import UsageError

KIND = "images"


def row(index: int) -> dict:
    return {"index": index, "file": f"{index}.png", "psnr": index + 0.5}


def written(folder: Path, count: int = 3) -> Journal:
    journal = Journal(folder, {KIND: 4})
    for index in range(journal.done, count):
        features = np.full((1, 4), index, dtype=np.float32)
        journal.add([row(index)], files=1, features={KIND: features})
    return journal


def test_what_was_not_saved_is_cut_off(tmp_path: Path) -> None:
    written(tmp_path, 2).save()
    written(tmp_path, 3)  # killed before it saved
    again = Journal(tmp_path, {KIND: 4})
    assert (again.done, again.read(ROWS)) == (2, [row(0), row(1)])
    written(tmp_path, 3).save()
    whole = Journal(tmp_path, {KIND: 4})
    assert whole.read(ROWS) == [row(0), row(1), row(2)]
    assert whole.features(KIND)[:, 0].tolist() == [0, 1, 2]
    forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [ROWS]


@pytest.mark.parametrize("name", [ROWS, features_file(KIND)])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_damage_is_found_whatever_it_is(tmp_path: Path, name: str, damage: str) -> None:
    written(tmp_path).save()
    content = (tmp_path / name).read_bytes()
    if damage == "changed":
        (tmp_path / name).write_bytes(content[:5] + bytes([content[5] ^ 1]) + content[6:])
    elif damage == "cut":
        (tmp_path / name).write_bytes(content[:-1])
    else:
        (tmp_path / name).unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=rf"{name} is damaged; remove .*\.state\.json"):
        Journal(tmp_path, {KIND: 4})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / STATE).unlink()  # as it says
    assert written(tmp_path).read(ROWS) == [row(0), row(1), row(2)]


@pytest.mark.parametrize(
    "state",
    ["{", "[]", "{}", '{"done": 1}', '{"done": "x", "files": {}}', '{"done": 1, "files": []}',
     '{"done": 1, "files": {"images.jsonl": 3}}', '{"done": NaN, "files": {}}',
     '{"done": -1, "files": {}}', '{"done": 1, "files": {"images.jsonl": [-1, "x"]}}'],
)  # fmt: skip
def test_a_damaged_state_is_one_line(tmp_path: Path, state: str) -> None:
    (tmp_path / STATE).write_text(state)
    with pytest.raises(UsageError, match=r"\.state\.json") as error:
        read_state(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_not_finite_is_refused_with_its_image(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {KIND: 4})
    with pytest.raises(UsageError, match=r"7\.png: a value of it is nan"):
        journal.add([row(7) | {"hybrid": {"psnr": float("nan")}}], files=1)
    features = np.zeros((2, 4), dtype=np.float32)
    features[1, 2] = np.inf
    with pytest.raises(UsageError, match=r"8\.png: its features \(images\) are not finite"):
        journal.add([row(7), row(8)], files=2, features={KIND: features})
    assert journal.done == 0 and not (tmp_path / ROWS).exists()


def test_names_that_are_no_utf8_and_odd_line_ends_are_rows(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    odd = [{"file": "a\udcff.png"}, {"file": "a\u2028b\x0b\x85.png"}]
    journal.add([], odd, files=2)
    journal.save()
    assert Journal(tmp_path).read(ERRORS) == odd
    assert json.loads((tmp_path / STATE).read_text())["done"] == 2

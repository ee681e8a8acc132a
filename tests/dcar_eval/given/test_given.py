"""Anybody's images: paired with prompts by a table or a folder, or as batches of pixels."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from dcar_eval.cli import main
from dcar_eval.geneval.layout import list_folder, list_table
from dcar_eval.geneval.prompts import lines, metadata
from dcar_eval.given.batches import is_batch, list_batch
from dcar_eval.given.pairs import find_pairs
from dcht import UsageError

PROMPTS = {"a": "a red car", "b": "two dogs"}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path, format="PNG")


def names(place: Path) -> list[tuple[str, str]]:
    return [(image.key, image.name) for image in find_pairs(place, PROMPTS).images]


TABLES = {
    "pairs.csv": "file_name,prompt\nx/2.jpg,two dogs\n1.PNG,a red car\nx/3.webp,two dogs\n",
    "pairs.jsonl": '{"file": "x/2.jpg", "prompt": "two dogs"}\n'
    '{"file": "1.PNG", "caption": "a red car"}\n{"path": "x/3.webp", "prompt": "two dogs"}\n',
    "pairs.json": '{"two dogs": ["x/2.jpg", "x/3.webp"], "a red car": "1.PNG", "other": "4.png"}',
    "keys.csv": "\ufefffile,prompt\nx/2.jpg,b\n1.PNG,a\nx/3.webp,b\n",
}


@pytest.mark.parametrize("table", TABLES)
def test_every_table_pairs_the_same(tmp_path: Path, table: str) -> None:
    touch(tmp_path, "1.PNG", "x/2.jpg", "x/3.webp")
    (tmp_path / table).write_text(TABLES[table], encoding="utf-8")
    assert names(tmp_path / table) == [("a", "1.PNG"), ("b", "x/2.jpg"), ("b", "x/3.webp")]


def test_a_folder_pairs_by_names(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "b/2.png", "b/10.webp", "c.png", "b.txt.png")
    assert names(tmp_path) == [("a", "a.JPG"), ("b", "b/10.webp"), ("b", "b/2.png")]
    touch(tmp_path, "a.png")
    with pytest.raises(UsageError, match=r"has a twice: a\.JPG and a\.png"):
        names(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "file_name,label\n1.png,3\n", "row 1 has no prompt or caption or text; its"),
        ("t.csv", "file_name,prompt\n1.png,a\n1.png,b\n", r"row 2: 1\.png is there twice"),
        ("t.csv", "file_name,prompt\n/etc/1.png,a\n", "should be relative to the table"),
        ("t.json", '{"a": 3}', "'a' has 3; expected a path"),
        ("t.json", "[]", "expected a JSON object"),
        ("t.jsonl", '{"prompt": "a"}\n', r"t\.jsonl line 1: names no image"),
        ("t.jsonl", "{", r"t\.jsonl line 1: is not JSON"),
        ("t.csv", "file_name,prompt\n1.png,something else\n", "has no image of the 2 prompts"),
        ("t.parquet", "", "is no folder of images, and no table of images and prompts"),
    ],
)
def test_a_table_that_is_none_is_one_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        find_pairs(tmp_path / name, PROMPTS)
    assert "\n" not in str(caught.value)


def test_geneval_takes_any_format_and_a_table(tmp_path: Path) -> None:
    folder = tmp_path / "00003"
    touch(folder / "samples", "0000.PNG", "0001.jpg", "00002.webp", "notes.png", "3.txt.png")
    (folder / "metadata.jsonl").write_text(lines()[3] + "\n")
    there = list_folder(tmp_path, metadata(), [3])
    assert [sample.name for sample in there.samples] == [
        f"00003/samples/{name}" for name in ("0000.PNG", "0001.jpg", "00002.webp")
    ]
    touch(folder / "samples", "1.png")
    with pytest.raises(UsageError, match=r"image 1 twice: 0001\.jpg and 1\.png"):
        list_folder(tmp_path, metadata(), [3])
    prompts = [metadata()[number]["prompt"] for number in (5, 3)]
    table = tmp_path / "pairs.json"
    table.write_text(json.dumps({prompts[0]: "x.jpg", prompts[1]: ["y.png", "z.png"]}))
    listed = list_table(table, metadata(), [3, 5])
    assert [tuple(sample) for sample in listed.samples] == [
        (3, "y.png"),
        (3, "z.png"),
        (5, "x.jpg"),
    ]


class Means(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3))


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fid(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    own = ModuleType("somebodys")
    own.means = Means  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys", own)
    monkeypatch.setenv("DCAR_EVAL_CACHE", str(tmp_path / "cache"))

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dcar-eval", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


def batch(path: Path, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
    np.savez(path, pixels)
    return pixels


def test_a_batch_of_pixels_is_read_in_place(tmp_path: Path) -> None:
    pixels = batch(tmp_path / "batch.npz", 5)
    assert is_batch(tmp_path / "batch.npz")
    entries = list_batch(tmp_path / "batch.npz")
    assert [entry.name for entry in entries][:2] == ["batch.npz/000000", "batch.npz/000001"]
    for entry, expected in zip(entries, pixels, strict=True):
        assert np.array_equal(np.asarray(entry.open()), expected)
    # With labels beside it, as class-conditional models save them.
    np.savez(tmp_path / "labelled.npz", pixels, np.arange(5))
    assert np.array_equal(np.asarray(list_batch(tmp_path / "labelled.npz")[4].open()), pixels[4])


def test_fid_of_a_batch_is_that_of_its_images(fid: Ask, tmp_path: Path) -> None:
    pixels = batch(tmp_path / "batch.npz", 6)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    other = tmp_path / "other.npz"
    batch(other, 5, seed=1)
    how = ("--device", "cpu", "--extractor", "somebodys:means", "--json")
    name = "fid[somebodys:means]"
    found = [
        json.loads(fid("fid", place, other, *how)[1])[name]
        for place in (tmp_path / "batch.npz", folder)
    ]
    assert found[0] == found[1] and found[0]["value"] > 0

    # Statistics in either place, and in both.
    stats = {}
    for label, place in (("a", tmp_path / "batch.npz"), ("b", other)):
        stats[label] = tmp_path / f"{label}-stats.npz"
        assert fid("stats", place, "--out", stats[label], *how[:-1])[0] == 0
        assert not is_batch(stats[label])
    expected = pytest.approx(found[0]["value"])
    for first, second in (
        (stats["a"], other), (other, stats["a"]), (stats["b"], folder), (folder, stats["b"]),
        (stats["a"], stats["b"]),
    ):  # fmt: skip
        code, printed, _ = fid("fid", first, second, *how)
        assert code == 0
        assert json.loads(printed)[name]["value"] == expected
    code, _, errors = fid("fid", folder, stats["a"], *how, "--metrics", "mind")
    assert (code, errors.count("\n")) == (2, 1) and "holds mean and covariance" in errors


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "arr_0 is float32 of shape"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"expected uint8 of \(n, height, width, 3\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), "arr_0 is uint8 of shape"),
        (np.asfortranarray(np.zeros((2, 4, 4, 3), np.uint8)), "arr_0 is uint8"),
    ],
)
def test_another_array_is_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "x.npz", values)
    with pytest.raises(UsageError, match=message):
        list_batch(tmp_path / "x.npz")


def test_a_compressed_and_a_damaged_batch_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(UsageError, match=r"save it with np\.savez, not np\.savez_compressed"):
        list_batch(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_bytes(b"PK nothing")
    assert not is_batch(tmp_path / "y.npz")
    with pytest.raises(UsageError, match="is not a zip archive that can be read"):
        list_batch(tmp_path / "y.npz")

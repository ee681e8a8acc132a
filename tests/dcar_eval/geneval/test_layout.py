"""Folders in the benchmark's layout: what is read, and what is refused by name."""

from pathlib import Path

import pytest

from dcar_eval.geneval.layout import list_folder, missing
from dcar_eval.geneval.prompts import lines, metadata
from dcht.errors import UsageError

ROWS = metadata()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prompts 0 and 2, four (empty) images each; the first as the README writes them."""
    for prompt, digits in ((0, 4), (2, 5)):
        samples = tmp_path / f"{prompt:05d}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(lines()[prompt] + "\n")
        (samples.parent / "grid.png").touch()
        for k in range(4):
            (samples / f"{k:0{digits}d}.png").touch()
    return tmp_path


def test_images_come_by_prompt_and_number(folder: Path) -> None:
    (folder / "00000/samples/10.png").touch()
    (folder / "00000/samples/notes.txt").touch()
    found = list_folder(folder, ROWS, [0, 1, 2])
    names = [sample.name for sample in found.samples]
    assert names[:5] == [
        f"00000/samples/{name}.png" for name in ("0000", "0001", "0002", "0003", "10")
    ]
    assert [sample.prompt for sample in found.samples] == [0] * 5 + [2] * 4
    assert missing(found.samples, [0, 1, 2]) == [
        "00000/samples has 5 of 4 images",
        "00001/samples has 0 of 4 images",
    ]
    assert missing(list_folder(folder, ROWS, [2]).samples, [2]) == []


def test_a_longer_prompt_is_read_and_said(folder: Path) -> None:
    path = folder / "00002/metadata.jsonl"
    path.write_text(path.read_text().replace("a photo of", "a splendid photo of"))
    assert list_folder(folder, ROWS, [0, 2]).rewritten == [2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("00002/metadata.jsonl", lines()[3], "00002/metadata.jsonl is not line 2 of the prompt"),
        ("00002/metadata.jsonl", "[]", "is not a line of JSON"),
        ("00002/metadata.jsonl", None, "00002/metadata.jsonl is not there; it is line 2"),
        ("00002/samples/1.png", "", "has image 1 twice: "),
        ("2/samples/0.png", "", "has two folders for prompt 2"),
        ("00553/samples/0.png", "", "has a folder 553; expected 00000 to 00552"),
    ],
)
def test_what_is_refused(folder: Path, name: str, content: str | None, message: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(UsageError, match=message):
        list_folder(folder, ROWS, [0, 2])


def test_no_layout_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder named by a number"):
        list_folder(tmp_path, ROWS, [0])
    with pytest.raises(UsageError, match="is not a folder"):
        list_folder(tmp_path / "no", ROWS, [0])

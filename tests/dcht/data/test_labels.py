"""Labels: the same from every place in which data sets have them."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch.utils.data import DataLoader

from dcht import LatentDataset, Tokenizer, UsageError
from dcht.data.labels import class_folders, parse_label
from dcht.data.sources import find_inputs, list_inputs
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings

CLASSES = {"a": 3, "b": 0, "c": "great white shark", "d": 3, "e": "007", "f": 0}


@pytest.fixture
def labeled(tmp_path: Path) -> dict[str, Path]:
    """Six images with classes and captions, in every way that `dcht encode` reads."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name, label in CLASSES.items():
        Image.new("RGB", (32, 32), (20 * ord(name) % 256, 0, 0)).save(folder / f"{name}.png")
        (folder / f"{name}.cls").write_text(f"{label}\n")
        (folder / f"{name}.txt").write_text(f"caption of {name}\n")
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    rows = [
        {"file_name": f"files/{name}.png", "caption": f"caption of {name}", "label": label}
        for name, label in CLASSES.items()
    ]
    plain = tmp_path / "plain"
    (plain / "files").mkdir(parents=True)
    for name in CLASSES:
        (plain / "files" / f"{name}.png").write_bytes((folder / f"{name}.png").read_bytes())
    (plain / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["file_name,caption,label", *(",".join(map(str, row.values())) for row in rows)]
    (plain / "rows.csv").write_text("\n".join(lines) + "\n")
    (plain / "files" / "metadata.csv").write_text(
        (plain / "rows.csv").read_text().replace("files/", "")
    )
    return {
        "files": folder,
        "tar": tmp_path / "all.tar",
        "jsonl": plain / "rows.jsonl",
        "csv": plain / "rows.csv",
        "metadata": plain / "files",
    }


def test_a_label_is_the_same_wherever_it_stands(labeled):
    for kind, source in labeled.items():
        found = find_inputs(source)
        rows = [entry.row() for entry in found.entries]
        assert found.unread == [], kind
        assert {row["file"][-5]: row["label"] for row in rows} == CLASSES, kind
        assert [row["caption"] for row in rows] == [f"caption of {name}" for name in CLASSES], kind


def test_a_number_is_one_only_as_it_is_written():
    assert [parse_label(text) for text in ("7", " 0\n", "007", "-1", "1e3", "n01440764", "٣")] == [
        7, 0, "007", "-1", "1e3", "n01440764", "٣",
    ]  # fmt: skip


def test_folders_are_classes_where_every_image_is_in_one():
    assert class_folders(["cat/1.png", "dog/1.png", "3/x.png"]) == {
        "cat/1.png": "cat", "dog/1.png": "dog", "3/x.png": 3,
    }  # fmt: skip
    assert class_folders(["cat/1.png", "cat/2.png"]) == {}
    assert class_folders(["cat/1.png", "dog/1.png", "cover.png"]) == {}
    assert class_folders(["train/cat/1.png", "train/dog/1.png"]) == {}


def test_padded_numbers_are_names_and_so_are_those_beside_them():
    """ "08" is no number as it is written, and a store's labels must be of one type."""
    padded = ["08/1.png", "10/1.png", "11/1.png"]
    assert class_folders(padded) == {name: name[:2] for name in padded}


def test_class_folders_label_images_of_which_nothing_else_is_said(tmp_path):
    for name in ("cat/1.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    assert [entry.row() for entry in list_inputs(tmp_path)] == [
        {"file": "cat/1.png", "label": "cat", "caption": None},
        {"file": "dog/1.png", "label": "dog", "caption": None},
    ]
    # Folders of captioned images are whatever they are: their stores stay as they were.
    (tmp_path / "cat" / "1.txt").write_text("a cat")
    assert all("label" not in entry.row() for entry in list_inputs(tmp_path))


@pytest.mark.parametrize("content", [b"", b"1\n2\n", b"\xff\xfe", b"x" * 5000])
def test_a_class_that_is_none_is_a_problem_of_its_image(labeled, content):
    (labeled["files"] / "b.cls").write_bytes(content)
    bad = [entry for entry in list_inputs(labeled["files"]) if entry.problem]
    assert [entry.name for entry in bad] == ["b.png"]
    assert ".cls" in bad[0].problem


def test_labels_reach_the_store_and_the_samples(labeled, tokenizer: Tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    saved = Tokenizer.from_pretrained(tmp_path / "tokenizer")
    settings = EncodeSettings(size=(32, 32), batch_size=3)
    for kind in ("tar", "csv"):
        encode_images(saved, labeled[kind], tmp_path / kind, settings)
        data = LatentDataset(tmp_path / kind, fields=["label", "caption"])
        assert [sample["label"] for sample in data] == list(CLASSES.values())
        assert data[-1]["label"] == data[5]["label"] == 0
        last: list[Any] = data[4:]
        assert [sample["caption"] for sample in last] == ["caption of e", "caption of f"]
        assert set(data[0]) == {"indices", "residual", "label", "caption"}
    with pytest.raises(UsageError, match="its row has caption, file, label"):
        LatentDataset(tmp_path / "csv", fields=["classes"])[0]
    with pytest.raises(IndexError, match="image -7 of 6"):
        data[-7]
    numbered = [data[k] for k in (0, 1, 3)]
    (batch,) = DataLoader(numbered, batch_size=3)  # type: ignore[arg-type]
    assert batch["label"].tolist() == [3, 0, 3]
    # Another class is another store.
    with pytest.raises(UsageError, match="what tables say of its images"):
        path = labeled["csv"]
        path.write_text(path.read_text().replace(",3\n", ",4\n"))
        encode_images(saved, path, tmp_path / "csv", settings)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_number_is_one_as_pandas_writes_it_where_another_is_missing(tmp_path, form):
    pandas = pytest.importorskip("pandas")
    for name in "abc":
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    table = pandas.DataFrame(
        {"file_name": ["a.png", "b.png", "c.png"], "caption": ["x"] * 3, "label": [3, None, 0]}
    )
    path = tmp_path / f"metadata.{form}"
    if form == "csv":
        table.to_csv(path, index=False)
    elif form == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    labels = [entry.row().get("label") for entry in list_inputs(tmp_path)]
    assert labels == [3, None, 0] and isinstance(labels[0], int)


def test_a_number_is_one_in_a_json_beside_and_in_parquet_with_images(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text('{"label": 3.0, "size": 2.0}')
    image = {"bytes": (tmp_path / "a.png").read_bytes(), "path": "b.png"}
    rows = [{"image": image, "label": 4.0}, {"image": image, "label": 0.5}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = [entry.row() for entry in list_inputs(tmp_path)]
    labels = [row["label"] for row in found]
    assert labels == [3, 4, 0.5] and [type(label) for label in labels] == [int, int, float]
    assert isinstance(found[0]["size"], float)


def test_a_name_with_a_dot_stays_a_name(tmp_path):
    rows = ["file_name,label", "a.png,v1.0", "b.png,1.00", "c.png,1.5", "d.png,01.0"]
    for row in rows[1:]:
        Image.new("RGB", (32, 32)).save(tmp_path / row.split(",")[0])
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    labels = [entry.row()["label"] for entry in list_inputs(tmp_path)]
    assert labels == ["v1.0", "1.00", "1.5", "01.0"]

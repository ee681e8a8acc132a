"""Parquet and Arrow: what is read of them, what is refused, and how little is held."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dcht.data import cells
from dcht.data.folders import Found
from dcht.data.hub import list_repository
from dcht.data.sources import find_inputs, list_inputs
from dcht.errors import UsageError


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), level).save(buffer, format="PNG")
    return buffer.getvalue()


def write(path: Path, rows: list[dict], **options) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_values_are_read_in_any_order_from_small_windows(tmp_path: Path, monkeypatch) -> None:
    rows = [{"image": {"bytes": png(k), "path": f"{k}.png"}, "n": k} for k in range(40)]
    entries = list_inputs(write(tmp_path / "a.parquet", rows, row_group_size=16))
    monkeypatch.setattr(cells, "HELD", 2 * len(png(0)))
    cells._open_group.cache_clear()
    for k in (39, 0, 17, 3, 2, 16, 15, 31, 1):
        assert entries[k].open().getpixel((0, 0)) == (k, k, k)
        assert entries[k].row() == {"file": f"a.parquet/{k:06d}", "n": k, "caption": None}


def test_a_value_that_a_dictionary_repeats_does_not_fill_the_memory(tmp_path: Path) -> None:
    """2 MB twenty thousand times over are a file of 2 MB."""
    one = pa.array([b"x" * (2 << 20)], pa.binary())
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), one)
    table = pa.table({"image": column, "caption": pa.array(["c"] * 20_000)})
    pq.write_table(table, tmp_path / "bomb.parquet", store_schema=False)
    entries = list_inputs(tmp_path / "bomb.parquet")
    assert len(entries) == 20_000
    with pytest.raises(UsageError, match="not a PNG"):
        entries[99].open()


def test_what_holds_no_images_is_said(tmp_path: Path) -> None:
    def problem(rows: list[dict]) -> str:
        (entry, *_) = list_inputs(write(tmp_path / "a.parquet", rows))
        return entry.problem or entry.read().problem

    several = [{"before": png(1), "after": png(2)}]
    assert "several columns hold bytes: before, after" in problem(several)
    assert not list_inputs(write(tmp_path / "a.parquet", [{"jpg": png(1), "mask": b"x"}]))[
        0
    ].problem
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    unread = pa.table({"image": pa.array([{"bytes": None, "path": "/etc/passwd"}], kind)})
    pq.write_table(unread, tmp_path / "a.parquet")
    assert "holds no bytes" in list_inputs(tmp_path / "a.parquet")[0].read().problem
    with pytest.raises(UsageError, match="holds no images"):
        list_inputs(write(tmp_path / "empty.parquet", [{"image": png(0)}][:0] or [{}]))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_damaged_files_are_problems(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    table = pa.Table.from_pylist([{"image": png(k), "text": f"t{k}"} for k in range(20)])
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    whole = path.read_bytes()
    assert [entry.row()["caption"] for entry in list_inputs(path)][19] == "t19"
    for place in range(0, len(whole) - 8, len(whole) // 30):
        path.write_bytes(whole[:place] + bytes(b ^ 0xFF for b in whole[place : place + 3])
                         + whole[place + 3 :])  # fmt: skip
        try:
            for entry in list_inputs(path):
                entry.row()
                entry.open()
        except UsageError:
            pass
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError):
        for entry in list_inputs(path):
            entry.open()


def test_without_the_extra_one_line_says_so(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "a.parquet", [{"image": png(0)}])
    monkeypatch.setattr(cells, "find_spec", lambda name: None)
    for source in (path, tmp_path):
        with pytest.raises(UsageError, match=r"needs an extra: pip install 'dcht\[datasets\]'"):
            list_inputs(source)


def test_one_table_is_read_and_two_are_an_error(images: Path) -> None:
    (images / "captions.tsv").write_text("image\tcaption\nd.bmp\tone, two\n")
    (images / "notes.json").write_text('{"what": "no table"}')
    found = find_inputs(images)
    assert (found.tables, found.unread) == (["captions.tsv"], ["notes.json"])
    assert {e.name: e for e in found.entries}["d.bmp"].row()["caption"] == "one, two"
    (images / "more.jsonl").write_text('{"image": "e.png", "caption": "x"}\n')
    with pytest.raises(
        UsageError, match=r"2 tables of images, captions\.tsv and more\.jsonl; call one of them"
    ):
        find_inputs(images)
    (images / "more.jsonl").rename(images / "metadata.jsonl")
    assert find_inputs(images).tables == ["metadata.jsonl"]


def test_links_are_followed_where_that_is_asked_for(images: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "x.png").write_bytes(png(7))
    (away / "x.txt").write_text("from elsewhere")
    (images / "linked").symlink_to(away)
    (away / "back").symlink_to(images)  # a circle
    (images / "y.png").symlink_to(away / "x.png")
    names = [entry.name for entry in list_inputs(images) if not entry.problem]
    assert not {"linked/x.png", "y.png"} & set(names)
    found = {entry.name: entry for entry in list_inputs(images, follow_links=True)}
    assert found["linked/x.png"].row()["caption"] == "from elsewhere"
    assert found["y.png"].open().size == (4, 4)
    assert sorted(found) == sorted([*names, "linked/x.png", "y.png"])


class Hub:
    """A repository of two Parquet files, served from a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.opened = folder, []

    def dataset_info(self, name, revision=None):
        assert (name, revision) == ("user/name", None)
        files = sorted(
            path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.*")
        )
        siblings = [type("File", (), {"rfilename": file})() for file in files]
        return type("Info", (), {"sha": "b" * 40, "siblings": siblings})()

    def open(self, file, mode):
        self.opened.append(file)
        return pa.OSFile(str(self.folder / file.split("@" + "b" * 40 + "/")[1]), mode)


def test_a_repository_of_parquet_is_read_where_it_is(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "data").mkdir()
    for number, split in enumerate(("test", "train")):
        rows = [{"image": png(10 * number + k), "text": f"{split} {k}"} for k in range(3)]
        write(tmp_path / "data" / f"{split}-00000-of-00001.parquet", rows)
    (tmp_path / "README.md").write_text("a card")
    hub = Hub(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("huggingface_hub.HfFileSystem", lambda: hub)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    entries = list_inputs("hf://user/name/data/train-*")
    assert [entry.row()["caption"] for entry in entries] == ["train 0", "train 1", "train 2"]
    assert entries[2].open().getpixel((0, 0)) == (12, 12, 12)
    # A path's one slash, and what pandas calls it.
    assert len(list_inputs(Path("hf://user/name"))) == 6
    assert len(list_inputs("hf://datasets/user/name/data")) == 6
    assert hub.opened[0] == f"hf://datasets/user/name@{'b' * 40}/data/train-00000-of-00001.parquet"
    with pytest.raises(UsageError, match="expected hf://user/name"):
        list_inputs("hf://name")


def test_files_of_a_repository_are_closed_also_where_they_are_damaged(
    tmp_path: Path, monkeypatch
) -> None:
    """Sound, cut off, and one whose column holds no image: what was opened to be listed."""
    (tmp_path / "data").mkdir()
    for name in ("sound", "cut", "none"):
        key = "text" if name == "none" else "image"
        write(tmp_path / "data" / f"{name}.parquet", [{key: png(k)} for k in range(3)])
    cut = tmp_path / "data" / "cut.parquet"
    cut.write_bytes(cut.read_bytes()[:-9])
    handles = []

    class Files(Hub):
        def open(self, file, mode):
            handles.append((self.folder / file.split("@" + "b" * 40 + "/")[1]).open(mode))
            return handles[-1]

    hub = Files(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("huggingface_hub.HfFileSystem", lambda: hub)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    entries = list_inputs("hf://user/name")
    assert [bool(entry.problem) for entry in entries].count(True) == 1
    assert len(handles) >= 3 and all(handle.closed for handle in handles)


def test_a_repository_that_cannot_be_reached_is_one_line(monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise OSError("no way to the Hub\nand more")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", fail)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(UsageError, match=r"cannot be listed: no way to the Hub$"):
        list(list_repository("hf://user/name", Found()))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"cannot be downloaded: no way to the Hub$"):
        list(list_repository("hf://user/name", Found()))


def test_numbers_of_classes_get_their_names(tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": ["cat", "7"]}}
    table = pa.Table.from_pylist(
        [{"image": png(0), "label": label, "score": score}
         for label, score in ((1, float("nan")), (0, 0.5), (-1, None))]
    )  # fmt: skip
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    rows = [entry.row() for entry in list_inputs(tmp_path / "a.parquet")]
    assert [row.get("label") for row in rows] == [7, "cat", None]
    assert [row.get("score") for row in rows] == [None, 0.5, None]


@pytest.mark.parametrize("alone", [True, False])
def test_a_repository_of_images_with_a_table_in_parquet(
    tmp_path: Path, monkeypatch, alone: bool
) -> None:
    """`metadata.parquet` beside images is their table; one that holds images, by itself, is not."""
    (tmp_path / "train").mkdir()
    if alone:
        rows = [{"image": png(k), "text": f"row {k}"} for k in range(2)]
    else:
        rows = [{"file_name": f"{k}.png", "text": f"row {k}"} for k in range(2)]
        for k in range(2):
            (tmp_path / "train" / f"{k}.png").write_bytes(png(k))
    write(tmp_path / "train" / "metadata.parquet", rows)
    hub = Hub(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    entries = list_inputs("hf://user/name")
    assert [entry.row()["caption"] for entry in entries] == ["row 0", "row 1"]
    assert [entry.open().getpixel((0, 0)) for entry in entries] == [(0, 0, 0), (1, 1, 1)]


KINDS = {
    "a name": (pa.struct([("binary_mask", pa.bool_())]), {"binary_mask": True}, True),
    "a name deep": (pa.list_(pa.struct([("binary", pa.int8())])), [{"binary": 1}], True),
    "bytes": (pa.large_binary(), b"x", False),
    "so many bytes": (pa.binary(2), b"xy", False),
    "in a list": (pa.list_(pa.binary()), [b"x"], False),
    "in a struct": (pa.struct([("n", pa.int8()), ("x", pa.list_(pa.binary()))]),
                    {"n": 1, "x": [b"x"]}, False),
    "in a map": (pa.map_(pa.string(), pa.binary()), [("a", b"x")], False),
    "in a dictionary": (pa.dictionary(pa.int8(), pa.binary()), b"x", False),
}  # fmt: skip
"""Type, a value, and whether JSON can say it."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_without_bytes_is_a_field_whatever_its_names(tmp_path: Path, kind: str) -> None:
    type_, value, plain = KINDS[kind]
    columns = {"image": pa.array([png(0)]), "about": pa.array([value], type_)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    (entry,) = list_inputs(tmp_path / "a.parquet")
    assert entry.metadata == ({"about": value} if plain else None)

"""`dcht shard`: tars that say again what was read, and that appear whole or not at all."""

import json
import tarfile
from pathlib import Path

import pytest

from dcht.data import webdataset
from dcht.data.sources import list_inputs
from dcht.data.webdataset import write_shards
from dcht.errors import UsageError


def said(source: Path) -> list[dict]:
    """What is said of each image, names aside, and its pixels."""
    rows = [(entry.row(), entry.open().tobytes()) for entry in list_inputs(source)]
    return [{**row, "file": "", "source": "", "pixels": pixels} for row, pixels in rows]


@pytest.fixture
def described(images: Path) -> Path:
    """What no `.txt` or `.cls` could say again, beside what they could."""
    rows = [
        {"file_name": "c.webp", "captions": ["two\nlines", " blank "], "label": "7"},
        {"file_name": "d.bmp", "text": "one", "label": "007", "score": [1, {"a": None}]},
        {"file_name": "e.png", "caption": "é\u2028x", "label": 3},
        {"file_name": "more/f.jpg", "label": True},
    ]
    (images / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return images


def test_tars_say_again_what_was_read(described: Path, tmp_path: Path) -> None:
    found = write_shards(described, tmp_path / "out", shard_size=4)
    assert (found.images, found.skipped, found.shards, found.written) == (6, 0, 2, 2)
    assert said(tmp_path / "out") == said(described)
    with tarfile.open(tmp_path / "out" / "00000.tar") as archive:
        assert archive.getnames()[:4] == [
            "000000000.png", "000000000.txt", "000000000.json", "000000001.jpg",
        ]  # fmt: skip
        assert archive.extractfile("000000000.png").read() == (described / "a.png").read_bytes()  # type: ignore[union-attr]
    first = (tmp_path / "out" / "00001.tar").read_bytes()
    write_shards(described, tmp_path / "again", shard_size=4)
    assert (tmp_path / "again" / "00001.tar").read_bytes() == first


def test_force_leaves_alone_what_it_reads_and_what_it_did_not_write(
    images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_shards(images, out, shard_size=4)
    (out / "cats.tar").write_bytes((out / "00000.tar").read_bytes())
    before = {path: path.read_bytes() for path in out.glob("*.tar")}
    with pytest.raises(UsageError, match=r"000\d\d\.tar is an input, and would be removed"):
        write_shards(out, out, force=True)
    assert {path: path.read_bytes() for path in out.glob("*.tar")} == before
    found = write_shards(images, out, shard_size=9, force=True)
    assert (found.shards, found.images) == (1, 6)
    assert sorted(path.name for path in out.glob("*.tar")) == ["00000.tar", "cats.tar"]


@pytest.mark.parametrize("label", ["", "  ", " cat", "x" * 5000, "\ufeffcat", "a\nb", ["cat"]])
def test_a_label_that_no_cls_can_say_loses_nothing(
    label: object, images: Path, tmp_path: Path
) -> None:
    rows = [
        {"file_name": "c.webp", "caption": "\ufeffa cat", "label": label},
        {"file_name": "d.bmp", "captions": ["one", "\x1dtwo"], "label": "cat"},
    ]
    (images / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert write_shards(images, tmp_path / "out").skipped == 0
    assert said(tmp_path / "out") == said(images)


def test_a_run_goes_on_and_what_changed_is_refused(
    described: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(webdataset, "_add", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_shards(described, out, shard_size=4)
    assert not list(out.glob("*.tar")) and not list(out.glob(".*.partial"))
    write_shards(described, out, shard_size=4)
    second = out / "00001.tar"
    whole = second.read_bytes()
    second.write_bytes(whole[:-512])  # cut by somebody
    assert write_shards(described, out, shard_size=4).written == 1
    assert second.read_bytes() == whole
    pixels = bytearray((described / "e.png").read_bytes())
    pixels[-20] ^= 1
    (described / "e.png").write_bytes(pixels)
    with pytest.raises(UsageError, match=r"00001\.tar was made of inputs that have changed"):
        write_shards(described, out, shard_size=4)
    with pytest.raises(UsageError, match="was begun with shard_size 4, not 2; use --force"):
        write_shards(described, out, shard_size=2)
    found = write_shards(described, out, shard_size=6, force=True)
    assert sorted(path.name for path in out.iterdir()) == [
        ".00000.tar.json", ".shards.json", "00000.tar", "errors.jsonl",
    ]  # fmt: skip
    assert (found.images, found.skipped) == (5, 1)
    assert json.loads((out / "errors.jsonl").read_text())["file"] == "e.png"
    assert len(list_inputs(out)) == 5
    assert write_shards(described, out, shard_size=6).skipped == 1
    with pytest.raises(UsageError, match=r"e\.png: damaged"):
        write_shards(described, tmp_path / "strict", strict=True)


def test_what_lies_in_out_is_no_input(images: Path) -> None:
    out = images / "shards"
    for written in (2, 0, 0):
        found = write_shards(images, out, shard_size=4)
        assert (found.images, found.written) == (6, written)


def test_strict_stops_at_what_an_earlier_run_skipped(images: Path, tmp_path: Path) -> None:
    (images / "e.png").write_text("no image")
    for _ in range(2):
        assert write_shards(images, tmp_path / "out", shard_size=2).skipped == 1
    for name in ("anew", "out"):
        with pytest.raises(UsageError, match=r"^e\.png: not a PNG"):
            write_shards(images, tmp_path / name, shard_size=2, strict=True)

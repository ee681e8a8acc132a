import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from dcar.data import open_data
from dcar.data.image_sets import list_images
from dcar.train_config import DataConfig, DataKind
from dcht import Tokenizer, UsageError


def png(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(buffer, "PNG")
    return buffer.getvalue()


def captions(root: Path | str, kind: DataKind, tokenizer: Tokenizer) -> list[list[str]]:
    """Of a set, after reading each of its images once."""
    data = open_data(DataConfig(kind=kind, root=str(root), size=64), tokenizer)
    assert data.read(range(len(data))).indices.shape == (len(data), 2, 2)
    return data.captions


@pytest.fixture
def webdataset(tmp_path: Path) -> Path:
    """Two archives as WebDataset has them."""
    members = {
        "0000": {"png": png(), "txt": b"a red square", "json": b'{"width": 64}'},
        "0001": {
            "png": png("blue"),
            "json": b'{"captions": ["blue", "a blue square"], "caption_weights": [1, 3]}',
        },
        "0002": {"png": png("green"), "json": b'{"caption": "green"}'},
    }
    for number, keys in enumerate((["0000", "0001"], ["0002"])):
        with tarfile.open(tmp_path / f"{number:05d}.tar", "w") as tar:
            for key in keys:
                for suffix, content in members[key].items():
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return tmp_path


def test_webdataset(webdataset: Path, tokenizer: Tokenizer) -> None:
    expected = [["a red square"], ["blue", "a blue square"], ["green"]]
    for root in (webdataset, f"{webdataset}/{{00000..00001}}.tar", f"{webdataset}/*.tar"):
        assert captions(root, DataKind.webdataset, tokenizer) == expected
    assert captions(webdataset / "00001.tar", DataKind.webdataset, tokenizer) == [["green"]]
    config = DataConfig(kind=DataKind.webdataset, root=str(webdataset), size=64)
    assert open_data(config, tokenizer).caption_weights == {1: [1, 3]}


def test_a_list_with_captions(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "list.jsonl").write_text('{"file_name": "a.png", "text": "a red square"}\n')
    assert captions(tmp_path / "list.jsonl", DataKind.folder, tokenizer) == [["a red square"]]


@pytest.mark.parametrize("train", ["", "ILSVRC/Data/CLS-LOC/train"])
def test_imagenet(tmp_path: Path, tokenizer: Tokenizer, train: str) -> None:
    for synset in ("n01440764", "n01530575"):
        folder = tmp_path / train / synset
        folder.mkdir(parents=True)
        (folder / f"{synset}_1.JPEG").write_bytes(png())
    (tmp_path / "LOC_synset_mapping.txt").write_text(
        "n01440764 tench, Tinca tinca\nn01530575 brambling\nn02123045 tabby, tabby cat\n"
    )
    assert captions(tmp_path, DataKind.imagenet, tokenizer) == [
        ["a photo of a tench", "a photo of a Tinca tinca"],
        ["a photo of a brambling"],
    ]
    (tmp_path / "LOC_synset_mapping.txt").unlink()
    assert captions(tmp_path, DataKind.imagenet, tokenizer)[0] == ["a photo of a n01440764"]


def test_journeydb(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "imgs" / "000").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "imgs" / "000" / f"{name}.jpg").write_bytes(png())
    rows = [
        {"img_path": "./000/b.jpg", "prompt": "b --ar 1:1", "Task2": {"Caption": "A letter."}},
        {"img_path": "./000/a.jpg", "prompt": "a castle", "Task2": None},
        {"img_path": "./000/gone.jpg", "prompt": "gone"},
        {"prompt": "no path"},
    ]
    table = tmp_path / "train_anno_realease_repath.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    assert captions(tmp_path, DataKind.journeydb, tokenizer) == [
        ["a castle"],
        ["b --ar 1:1", "A letter."],
    ]
    found = list_images(str(tmp_path), DataKind.journeydb)
    assert [image.entry.name for image in found.images] == ["000/a.jpg", "000/b.jpg"]
    assert "3 left out" in found.notes[0]
    table.unlink()
    with pytest.raises(UsageError, match=r"holds 0 files \*_repath\.jsonl"):
        list_images(str(tmp_path), DataKind.journeydb)


def test_a_text_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    """A row of JourneyDB is left out and named; the names of ImageNet are one file."""
    (tmp_path / "imgs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "imgs" / f"{name}.jpg").write_bytes(png())
    rows = [
        b'{"img_path": "a.jpg", "prompt": "caf\xe9"}',
        b'{"img_path": "b.jpg", "prompt": "tea"}',
    ]
    (tmp_path / "x_repath.jsonl").write_bytes(b"\r\n".join(rows))
    found = list_images(str(tmp_path), DataKind.journeydb)
    assert [image.row["captions"] for image in found.images] == [["tea"]]
    assert "1 left out, for instance x_repath.jsonl line 1: not a row" in found.notes[0]
    names = tmp_path / "LOC_synset_mapping.txt"
    names.write_bytes(b"n01440764 tench\nn01530575 caf\xe9\n")
    with pytest.raises(UsageError, match=rf"^{names}: not a text in UTF-8 \(byte 29\)$"):
        list_images(str(tmp_path), DataKind.imagenet)
    names.write_bytes("\ufeffimgs café\n".encode())  # with a byte order mark
    found = list_images(str(tmp_path), DataKind.imagenet)
    assert found.images[0].row["captions"] == ["a photo of a café"]


def test_a_set_without_a_image(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(UsageError, match=r"holds no images that can be used: \.heic is not read"):
        list_images(str(tmp_path), DataKind.folder)


def test_an_image_whose_text_cannot_be_read_is_left_out_and_named(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """As `dcht encode` leaves it out; a run ended at one of them."""
    for name, text in (("a", b"a red square"), ("b", b"caf\xe9"), ("c", b"a red square")):
        (tmp_path / f"{name}.png").write_bytes(png())
        (tmp_path / f"{name}.txt").write_bytes(text)
    (tmp_path / "c.json").write_bytes(b"{")
    found = list_images(str(tmp_path), DataKind.folder)
    assert [image.entry.name for image in found.images] == ["a.png"]
    assert "2 left out, for instance b.png: b.txt: not a text in UTF-8 (byte 3)" in found.notes[0]
    assert captions(tmp_path, DataKind.folder, tokenizer) == [["a red square"]]

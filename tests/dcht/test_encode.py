"""Folders through a tokenizer: what is stored, what is skipped, what an interruption leaves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from dcht import LatentsStore, Tokenizer, UsageError
from dcht.encode import encode_folder, reconstruct_folder
from dcht.images import list_images, open_image, resize_crop, to_tensor
from dcht.latents import LatentsWriter, Manifest

Encode = Callable[..., Manifest]


@pytest.fixture
def encode(saved_tokenizer: Path, pictures: Path, tmp_path: Path) -> Encode:
    """Encode the six pictures into `latents/`, in shards of four and batches of two."""
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    settings = {"size": (96, 64), "batch_size": 2, "shard_size": 4}

    def run(out: Path = tmp_path / "latents", **changes: object) -> Manifest:
        return encode_folder(tokenizer, pictures, out, **(settings | changes))  # type: ignore[arg-type]

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def spoil(pictures: Path) -> None:
    """Make two of the six unreadable, one at the start of a batch."""
    (pictures / "a.png").write_text("no picture")
    whole = (pictures / "b.jpg").read_bytes()
    (pictures / "b.jpg").write_bytes(whole[: len(whole) // 2])


def test_store_holds_what_the_tokenizer_gives(
    encode: Encode, tokenizer: Tokenizer, pictures: Path, tmp_path: Path
) -> None:
    manifest = encode()
    assert (manifest.count, manifest.skipped, manifest.shards) == (6, 0, [4, 2])
    store = LatentsStore(tmp_path / "latents")
    assert len(store) == 6
    assert store.plan.tokenizer_sha256 == Tokenizer.from_pretrained(tmp_path / "tokenizer").sha256
    for number, path in enumerate(list_images(pictures)):
        pixels = to_tensor(resize_crop(open_image(path), (96, 64)))[None]
        with torch.inference_mode():
            expected = tokenizer.tokenize(pixels)
            indices, residual = store.read(number)
            assert indices.dtype == torch.int64
            assert torch.equal(indices, expected.indices[0])
            assert (residual - expected.residual[0]).abs().max() <= 1e-3
            # The image comes back through the fp16 store.
            restored = tokenizer.decode(tokenizer.lookup(indices[None]) + residual[None])
            assert (restored - tokenizer.reconstruct(pixels)).abs().max() <= 2e-2
    all_indices, all_residual = store.load_all()
    assert torch.equal(all_indices[5], store.read(5)[0])
    assert torch.equal(all_residual[5].float(), store.read(5)[1])
    with pytest.raises(IndexError):
        store.read(6)


def test_captions_and_fields_come_along(encode: Encode, pictures: Path, tmp_path: Path) -> None:
    (pictures / "e.json").write_text('{"task": "colors", "file": "not this"}')
    encode()
    rows = LatentsStore(tmp_path / "latents").rows
    assert [row["file"] for row in rows][:2] == ["a.png", "b.jpg"]
    assert rows[0]["caption"] == "a first picture"
    assert rows[0]["captions"] == ["a first picture", "the first one"]
    assert (rows[1]["caption"], "captions" in rows[1]) == ("a second picture", False)
    assert rows[2]["caption"] is None
    assert rows[4] == {"task": "colors", "file": "e.png", "caption": None}


def test_bad_images_are_skipped_counted_and_listed(
    encode: Encode, pictures: Path, tmp_path: Path
) -> None:
    encode(tmp_path / "good")
    spoil(pictures)
    manifest = encode()
    assert (manifest.count, manifest.skipped, manifest.shards) == (4, 2, [2, 2])
    lines = (tmp_path / "latents" / "errors.jsonl").read_text().splitlines()
    errors = [json.loads(line) for line in lines]
    assert [row["file"] for row in errors] == ["a.png", "b.jpg"]
    assert all(row["reason"] for row in errors)
    # The others are stored as if nothing had happened.
    good, store = (LatentsStore(tmp_path / name) for name in ("good", "latents"))
    assert torch.equal(store.read(0)[0], good.read(2)[0])
    with pytest.raises(UsageError, match=r"a\.png: not a PNG"):
        encode(tmp_path / "strict", strict=True)


def test_a_shard_may_come_out_empty(encode: Encode, pictures: Path, tmp_path: Path) -> None:
    for path in list_images(pictures)[:4]:
        path.write_text("no picture")
    assert encode().shards == [0, 2]
    store = LatentsStore(tmp_path / "latents")
    assert store.load_all()[0].shape == (2, 2, 3)
    assert torch.equal(store.read(0)[0], store.load_all()[0][0])


def test_interrupted_work_ends_in_the_same_bytes(
    encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "whole")
    write = LatentsWriter.write

    def stop_at_the_second(self: LatentsWriter, shard: int, *rest: object) -> None:
        if shard == 1:
            raise KeyboardInterrupt
        write(self, shard, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(LatentsWriter, "write", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            encode()
    with pytest.raises(UsageError, match="not finished: repeat"):
        LatentsStore(tmp_path / "latents")
    (tmp_path / "latents" / ".shard-00001.safetensors.partial").write_bytes(b"left over")
    first = (tmp_path / "latents" / "shard-00000.safetensors").stat().st_mtime_ns
    encode()
    assert contents(tmp_path / "latents") == contents(tmp_path / "whole")
    assert (tmp_path / "latents" / "shard-00000.safetensors").stat().st_mtime_ns == first


def test_a_finished_store_is_left_alone(encode: Encode, pictures: Path, tmp_path: Path) -> None:
    spoil(pictures)
    first = encode()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").glob("shard-*")}
    assert encode() == first
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").glob("shard-*")}
    assert after == before


def test_other_settings_need_force(encode: Encode, tmp_path: Path) -> None:
    encode()
    before = contents(tmp_path / "latents")
    with pytest.raises(UsageError, match="was begun with width 96, not 64"):
        encode(size=(64, 64))
    assert contents(tmp_path / "latents") == before
    encode(size=(64, 64), force=True)
    assert LatentsStore(tmp_path / "latents").plan.width == 64
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty and is not a store"):
        encode(tmp_path / "photos")
    encode(tmp_path / "photos", force=True)
    assert (tmp_path / "photos" / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_named(encode: Encode, pictures: Path) -> None:
    shutil.rmtree(pictures)
    pictures.mkdir()
    with pytest.raises(UsageError, match="holds no images"):
        encode()


@pytest.mark.parametrize(("path", "width"), [("hybrid", 64), ("compare", 4 * 64 + 12)])
def test_reconstruct_writes_pictures(
    saved_tokenizer: Path, pictures: Path, tmp_path: Path, path: str, width: int
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    spoil(pictures)
    out = tmp_path / "seen"
    result = reconstruct_folder(tokenizer, pictures, out, size=(64, 64), path=path)
    assert result.written == 4
    assert [row["file"] for row in result.errors] == ["a.png", "b.jpg"]
    with Image.open(out / "more" / "f.jpg.png") as picture:
        assert picture.size == (width, 64)
    # Repeating it does only what is missing.
    (out / "c.webp.png").unlink()
    kept = (out / "d.bmp.png").stat().st_mtime_ns
    again = reconstruct_folder(tokenizer, pictures, out, size=(64, 64), path=path)
    assert again.written == 4
    assert (out / "d.bmp.png").stat().st_mtime_ns == kept
    with pytest.raises(UsageError, match="other settings"):
        reconstruct_folder(tokenizer, pictures, out, size=(96, 64), path=path)

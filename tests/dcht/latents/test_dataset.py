"""A store as training code reads it: at random, from several processes, and back to images."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image
from torch.utils.data import DataLoader

from dcht import CheckpointError, LatentDataset, Tokenizer, UsageError
from dcht.latents import LatentsStore
from dcht.latents.decode import decode_store
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings, Flip
from dcht.latents.inspect import inspect_store, plot_codes


@pytest.fixture
def latents(images: Path, saved_tokenizer: Path, tmp_path: Path) -> Path:
    """The six images, in three shards, the second of which has lost its only image but one."""
    (images / "c.webp").write_text("no image")
    (images / "d.txt").write_text("ein schönes Bild 絵\n")
    out = tmp_path / "latents"
    settings = EncodeSettings(size=(96, 64), batch_size=2, shard_size=2)
    encode_images(Tokenizer.from_pretrained(saved_tokenizer), images, out, settings)
    return out


def test_samples_are_what_the_store_holds(latents: Path) -> None:
    data = LatentDataset(latents)
    indices, residual = data.store.load_all()
    assert len(data) == 5
    for number in (4, 0, 2, 1, 3):  # in no order
        sample = data[number]
        assert torch.equal(sample.indices, indices[number])
        assert torch.equal(sample.residual, residual[number].float())
        assert data.store.row(number) == data.store.rows[number]
    assert [data[number].file for number in range(5)] == [
        "a.png", "b.jpg", "d.bmp", "e.png", "more/f.jpg",
    ]  # fmt: skip
    assert data[2].caption == "ein schönes Bild 絵"
    assert data[3].caption == ""
    with pytest.raises(IndexError):
        data[5]
    for name in ("indices", "residual"):  # a column of that name would take the tensor's place
        with pytest.raises(UsageError, match=f"field '{name}' is the name of a tensor"):
            LatentDataset(latents, fields=["file", name])


def test_a_loader_collates_samples(latents: Path) -> None:
    """With a worker: what was mapped before does not travel to it."""
    data = LatentDataset(latents)
    first = data[0]
    (batch,) = DataLoader(data, batch_size=5, num_workers=1, multiprocessing_context="fork")
    assert torch.equal(batch.indices[0], first.indices)
    assert batch.residual.shape == (5, *first.residual.shape)
    assert tuple(batch.caption[:2]) == ("a first image", "a second image")
    elsewhere = pickle.loads(pickle.dumps(data))
    assert torch.equal(elsewhere[0].residual, first.residual)


def test_inspection_counts_and_measures(latents: Path) -> None:
    store = LatentsStore(latents)
    indices, residual = store.load_all()
    found, histogram = inspect_store(store)
    assert (found.images, found.captioned, found.skipped, found.shards) == (5, 3, 1, 3)
    assert found.files_checked == 3 * 2 + 1
    codes, counts = np.unique(indices.numpy(), return_counts=True)
    assert found.codes_used == len(codes)
    assert histogram.sum() == found.tokens == indices.numel()
    assert np.array_equal(histogram[codes], counts)
    share = counts / counts.sum()
    assert found.perplexity == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert found.residual_mean == pytest.approx(float(residual.double().mean()))
    assert found.residual_std == pytest.approx(float(residual.double().std(correction=0)))
    assert "5 in 3 shards" in found.lines()


@pytest.mark.parametrize("name", ["shard-00001.safetensors", "shard-00000.jsonl", "errors.jsonl"])
def test_a_changed_byte_is_found(latents: Path, name: str) -> None:
    content = bytearray((latents / name).read_bytes())
    content[-3] ^= 1
    (latents / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} has SHA-256"):
        inspect_store(LatentsStore(latents))
    (latents / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        inspect_store(LatentsStore(latents))


def test_the_plot_shows_the_counts() -> None:
    """1,000 uses of every code fill the plot; one use of half the codes half of its width."""
    full = np.asarray(plot_codes(np.full(836, 1000), "")).astype(int)
    half = np.asarray(plot_codes(np.repeat([1, 0], 418), "")).astype(int)
    blue = (np.abs(np.stack([full, half]) - [0x4C, 0x72, 0xB0]).sum(-1) == 0).sum(axis=(1, 2))
    height, width = 420 - 64 - 32, 900 - 16 - 64
    assert blue[0] == pytest.approx(height * width, rel=0.02)
    assert 0.9 * width / 2 < blue[1] < 3 * width / 2


def test_images_come_back(
    latents: Path, saved_tokenizer: Path, images: Path, tmp_path: Path
) -> None:
    tokenizer, store = Tokenizer.from_pretrained(saved_tokenizer), LatentsStore(latents)
    out = tmp_path / "decoded"
    assert decode_store(tokenizer, store, out, batch_size=2) == 5
    indices, residual = store.read(4)
    with torch.inference_mode():
        pixels = tokenizer.decode(tokenizer.lookup(indices[None]) + residual[None])[0]
    expected = ((rearrange(pixels, "c h w -> h w c").clamp(-1, 1) + 1) * 127.5).round()
    found = np.asarray(Image.open(out / "more" / "f.jpg.png")).astype(float)
    assert np.abs(found - expected.numpy()).max() <= 1
    # Repeated, it does what is missing; without the residual the images are others.
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    (out / "d.bmp.png").unlink()
    assert decode_store(tokenizer, store, out, batch_size=2) == 5
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before
    decode_store(tokenizer, store, tmp_path / "rough", path="discrete", limit=2)
    assert (tmp_path / "rough" / "a.png.png").read_bytes() != before[out / "a.png.png"]
    assert len(list((tmp_path / "rough").rglob("*.png"))) == 2


def test_another_tokenizer_does_not_decode(
    latents: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    with torch.no_grad():
        tokenizer.encoder.output.weight.mul_(2)
    tokenizer.save_pretrained(other)
    with pytest.raises(CheckpointError, match="was encoded by tokenizer"):
        decode_store(Tokenizer.from_pretrained(other), LatentsStore(latents), tmp_path / "x")


def test_images_stay_inside_whatever_their_names(
    latents: Path, saved_tokenizer: Path, tmp_path: Path
) -> None:
    path = latents / "shard-00000.jsonl"
    names = ("../../up.png", "/etc/up\0.png")
    path.write_text("".join(json.dumps({"file": name}) + "\n" for name in names))
    out = tmp_path / "deep" / "decoded"
    decode_store(Tokenizer.from_pretrained(saved_tokenizer), LatentsStore(latents), out, limit=2)
    found = {path.relative_to(tmp_path / "deep").as_posix() for path in out.rglob("*.png")}
    assert found == {"decoded/up.png.png", "decoded/etc/up.png.png"}


def test_both_flips_come_back_mirrored_names(
    images: Path, saved_tokenizer: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    settings = EncodeSettings(size=(64, 64), flip=Flip.both)
    encode_images(tokenizer, images / "a.png", tmp_path / "flips", settings)
    decode_store(tokenizer, LatentsStore(tmp_path / "flips"), tmp_path / "seen")
    names = sorted(path.name for path in (tmp_path / "seen").glob("*.png"))
    assert names == ["a.png.flip.png", "a.png.png"]

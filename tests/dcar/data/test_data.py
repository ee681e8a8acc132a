import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dcar.data import Data, LatentSource, open_data, residual_std
from dcar.data.captions import read_captions
from dcar.train_config import DataConfig, DataKind, SourceConfig
from dcht import CheckpointError, Tokenizer, UsageError
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings, Flip


def test_a_store_has_its_latents_and_captions(
    store: Path, captioned: Path, saved_tokenizer: Path
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    latents = open_data(DataConfig(kind=DataKind.latents, root=str(store)), tokenizer)
    folder = open_data(DataConfig(kind=DataKind.folder, root=str(captioned), size=64), tokenizer)
    assert latents.captions == folder.captions
    assert latents.captions[1] == ["a blue car", "the blue car"]
    assert latents.grid(5) == folder.grid(5) == (2, 2) and len(latents) == 12
    stored, fresh = latents.read([5, 0]), folder.read([5, 0])
    assert torch.equal(stored.indices, fresh.indices)
    assert torch.allclose(stored.residual, fresh.residual, atol=1e-3)  # fp16 on disk
    assert stored.residual.shape == (2, 8, 2, 2)


def test_a_large_store_is_read_row_by_row(
    store: Path, saved_tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    in_memory = LatentSource(str(store), tokenizer).read([11, 3])
    monkeypatch.setattr("dcar.data.IN_MEMORY", 0)
    on_disk = LatentSource(str(store), tokenizer).read([11, 3])
    assert all(torch.equal(a, b) for a, b in zip(on_disk, in_memory, strict=True))


def test_residual_std_is_measured_where_it_is_not_recorded(
    store: Path, saved_tokenizer: Path
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    data = Data([LatentSource(str(store), tokenizer)])
    everything = data.read(range(12)).residual
    assert residual_std(data, tokenizer) == pytest.approx(float(everything.std()))
    tokenizer.set_residual_std(0.25)
    assert residual_std(data, tokenizer) == 0.25


def test_a_store_of_another_tokenizer_is_refused(store: Path, tokenizer: Tokenizer) -> None:
    tokenizer.encoder.output.weight.data.mul_(2)
    tokenizer.sha256 = "e" * 64
    with pytest.raises(CheckpointError, match=f"was encoded by tokenizer .* not by {'e' * 64}"):
        LatentSource(str(store), tokenizer)


def test_missing_captions_are_counted_and_one_is_named(
    store: Path, captioned: Path, saved_tokenizer: Path
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    (captioned / "03.txt").unlink()
    with pytest.raises(UsageError, match=r"1 of 12 images have no caption, for instance 03\.png"):
        open_data(DataConfig(kind=DataKind.folder, root=str(captioned), size=64), tokenizer)
    shard = store / "shard-00000.jsonl"
    rows = [
        json.loads(line) | {"caption": None, "captions": []}
        for line in shard.read_text().splitlines()
    ]
    shard.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match="12 of 12 images have no caption"):
        LatentSource(str(store), tokenizer)


def test_a_folder_without_images_or_with_an_odd_size(
    tmp_path: Path, captioned: Path, tokenizer: Tokenizer
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no images"):
        open_data(DataConfig(kind=DataKind.folder, root=str(tmp_path / "empty")), tokenizer)
    with pytest.raises(UsageError, match=r"data\.size 70 is not a multiple of 32"):
        open_data(DataConfig(kind=DataKind.folder, root=str(captioned), size=70), tokenizer)


def test_both_flips_of_a_store_but_not_of_captions_that_name_a_side(
    captioned: Path, saved_tokenizer: Path, tmp_path: Path
) -> None:
    (captioned / "00.txt").write_text("an apple left of a car\n")
    tokenizer, out = Tokenizer.from_pretrained(saved_tokenizer), tmp_path / "both"
    settings = EncodeSettings(size=(64, 64), batch_size=4, flip=Flip.both)
    encode_images(tokenizer, str(captioned), out, settings)
    data = open_data(DataConfig(kind=DataKind.latents, root=str(out)), tokenizer)
    assert len(data) == 23
    assert data.captions[0] == ["an apple left of a car"]
    assert data.captions[1] == data.captions[2] == ["a blue car", "the blue car"]
    assert "1 images are not shown mirrored" in data.notes[0]
    straight = LatentSource(str(out), tokenizer)
    for row, place in ((0, 0), (1, 2), (2, 3), (22, 23)):
        assert torch.equal(data.read([row]).indices[0], straight.store.read(place)[0])


def test_captions_of_a_set_for_its_store(
    captioned: Path, saved_tokenizer: Path, tmp_path: Path
) -> None:
    root, out = tmp_path / "classes", tmp_path / "store"
    for number, name in enumerate(("apple", "great_auk")):
        (root / name).mkdir(parents=True)
        shutil.copy(captioned / f"{number:02d}.png", root / name / "1.png")
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    encode_images(tokenizer, str(root), out, EncodeSettings(size=(64, 64), batch_size=4))
    on_the_fly = DataConfig(kind=DataKind.imagenet, root=str(root), size=64)
    stored = replace(on_the_fly, latents=str(out))
    for config in (on_the_fly, stored):
        data = open_data(config, tokenizer)
        assert data.captions == [["a photo of an apple"], ["a photo of a great auk"]]
    for name in ("2", "3"):  # images that came after the store
        shutil.copy(captioned / "00.png", root / "apple" / f"{name}.png")
    data = open_data(stored, tokenizer)
    assert len(data) == 2 and len(data.notes) == 1
    assert "2 of 4 images are not in" in data.notes[0] and "apple/2.png" in data.notes[0]
    with pytest.raises(UsageError, match=r"1 of 2 images have no caption.*apple/1\.png"):
        shutil.rmtree(root / "apple")
        open_data(stored, tokenizer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": True}, r"data\.flip is of images that are encoded on the fly"),
        ({"follow_links": True}, r"data\.follow_links is of folders of images"),
        ({"buckets": ["64x64"]}, r"data\.buckets is of images that are encoded on the fly"),
        ({"kind": DataKind.folder, "latents": "x", "flip": True}, r"data\.flip .*--flip both"),
        ({"latents": "x"}, r"data\.latents=x is the store of a folder of images, and y is one"),
    ],
)
def test_options_that_nothing_would_heed_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DataConfig(**{"kind": DataKind.latents, "root": "y", **settings})


def test_what_of_a_mixture_is_encoded_on_the_fly_has_flips_and_buckets() -> None:
    fly = SourceConfig(kind=DataKind.folder, root="z")
    config = DataConfig(kind=DataKind.latents, root="y", mixture=[fly], flip=True, buckets=["64"])
    assert config.flip


def test_a_mixture_reads_from_every_source(
    store: Path, captioned: Path, saved_tokenizer: Path
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    other = SourceConfig(kind=DataKind.folder, root=str(captioned), weight=1)
    config = DataConfig(kind=DataKind.latents, root=str(store), weight=3, mixture=[other], size=64)
    data = open_data(config, tokenizer)
    assert len(data) == 24 and data.captions[12:] == data.captions[:12]
    assert [part.share for part in data.parts] == [0.75, 0.25]
    mixed = data.read([13, 1, 0, 12])
    alone = LatentSource(str(store), tokenizer).read([1, 1, 0, 0])
    assert torch.equal(mixed.indices, alone[0])
    assert torch.allclose(mixed.residual, alone[1], atol=1e-3)
    with pytest.raises(UsageError, match=r"weights are \[None, 1\]; give every source one"):
        DataConfig(kind=DataKind.latents, root="x", mixture=[other])


def test_captions_of_rows() -> None:
    row = {"file": "a.png", "caption": "one", "captions": ["one", "two"], "caption_weights": [3, 1]}
    captions = read_captions([{"file": "b.png", "caption": "b"}, row], "root")
    assert captions.texts == [["b"], ["one", "two"]]
    assert captions.weights == {1: [3, 1]}
    for odd in ([1], [0, 0], [1, -1], "12", [1, "1"]):
        with pytest.raises(UsageError, match=r"root: a\.png: caption_weights .* 2 numbers"):
            read_captions([row | {"caption_weights": odd}], "root")
    with pytest.raises(UsageError, match="1 of 1 images have no caption"):
        read_captions([{"file": "a.png", "caption": "  "}], "root")

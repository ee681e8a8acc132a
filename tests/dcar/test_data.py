import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from dcar.data import LatentsData, Stream, open_data, residual_std
from dcar.train_config import DataConfig, DataKind
from dcht import CheckpointError, Tokenizer, UsageError


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    stream = Stream(0, 10)
    epochs = [[stream.row(sample) for sample in range(e * 10, e * 10 + 10)] for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_depends_on_seed_and_number_alone() -> None:
    forwards = [Stream(4, 10).row(sample) for sample in range(25)]
    stream = Stream(4, 10)
    assert [stream.row(sample) for sample in reversed(range(25))] == forwards[::-1]
    assert [Stream(5, 10).row(sample) for sample in range(25)] != forwards


def test_captions_are_drawn_each_time() -> None:
    stream = Stream(0, 1)
    drawn = Counter(stream.caption(sample, ["a", "b", "c"]) for sample in range(300))
    assert set(drawn) == {"a", "b", "c"} and min(drawn.values()) > 60
    assert stream.caption(7, ["only"]) == "only"


def test_a_store_has_its_latents_and_captions(
    store: Path, captioned: Path, saved_tokenizer: Path
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    latents = open_data(DataConfig(kind=DataKind.latents, root=str(store)), tokenizer)
    folder = open_data(DataConfig(kind=DataKind.folder, root=str(captioned), size=64), tokenizer)
    assert latents.captions == folder.captions
    assert latents.captions[1] == ["a blue car", "the blue car"]
    assert latents.grid == folder.grid == (2, 2)
    stored, fresh = latents.read([5, 0]), folder.read([5, 0])
    assert torch.equal(stored.indices, fresh.indices)
    assert torch.allclose(stored.residual, fresh.residual, atol=1e-3)  # fp16 on disk
    assert stored.residual.shape == (2, 8, 2, 2)


def test_a_large_store_is_read_row_by_row(
    store: Path, saved_tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    in_memory = LatentsData(str(store), tokenizer).read([11, 3])
    monkeypatch.setattr("dcar.data.IN_MEMORY", 0)
    on_disk = LatentsData(str(store), tokenizer).read([11, 3])
    assert torch.equal(on_disk.indices, in_memory.indices)
    assert torch.equal(on_disk.residual, in_memory.residual)


def test_residual_std_is_measured_where_it_is_not_recorded(
    store: Path, saved_tokenizer: Path
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    data = LatentsData(str(store), tokenizer)
    everything = data.read(range(12)).residual
    assert residual_std(data, tokenizer) == pytest.approx(float(everything.std()))
    tokenizer.set_residual_std(0.25)
    assert residual_std(data, tokenizer) == 0.25


def test_a_store_of_another_tokenizer_is_refused(store: Path, tokenizer: Tokenizer) -> None:
    tokenizer.sha256 = "e" * 64
    with pytest.raises(CheckpointError, match=f"was encoded by tokenizer .* not by {'e' * 64}"):
        LatentsData(str(store), tokenizer)


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
        LatentsData(str(store), tokenizer)


def test_a_folder_without_images_or_with_an_odd_size(
    tmp_path: Path, captioned: Path, tokenizer: Tokenizer
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no images"):
        open_data(DataConfig(kind=DataKind.folder, root=str(tmp_path / "empty")), tokenizer)
    with pytest.raises(UsageError, match=r"data\.size 70 is not a multiple of 32"):
        open_data(DataConfig(kind=DataKind.folder, root=str(captioned), size=70), tokenizer)

"""A store of continuous latents: what people train diffusion on, without indices."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from dcht import PRESETS, LatentDataset, LatentsStore, Tokenizer, UsageError
from dcht.cli import main
from dcht.images import open_image, resize_crop, to_tensor

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dcht(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["dcht", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def plain(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A tokenizer without a codebook, as `dcht convert` makes of a DC-AE."""
    continuous = Tokenizer(replace(PRESETS["tiny"], codebook_size=None)).eval()
    weights = {k: v for k, v in tokenizer.state_dict().items() if "quantizer" not in k}
    continuous.load_state_dict(weights)
    continuous.save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


@torch.inference_mode()
def test_latents_are_the_encoders_and_come_back_as_images(
    dcht: Command, images: Path, plain: Path, tmp_path: Path
) -> None:
    store = tmp_path / "latents"
    words = ("encode", images, "--out", store, "--ckpt", plain, "--size", "96x64")
    options = ("--batch-size", "2", "--shard-size", "4", "--flip", "both", "--json")
    code, printed, _ = dcht(*words, *options)
    assert (code, json.loads(printed)["images"]) == (0, 12)
    kept = load_file(store / "shard-00000.safetensors")
    assert sorted(kept) == ["latent", "sha256"]
    assert (kept["latent"].dtype, kept["latent"].shape) == (torch.float16, (8, 8, 2, 3))
    tokenizer = Tokenizer.from_pretrained(plain)
    data = LatentDataset(store)
    assert len(data) == 12 and data.store.continuous
    for number, name in ((0, "a.png"), (8, "e.png")):
        pixels = to_tensor(resize_crop(open_image(images / name), (96, 64)))[None]
        for flipped in (0, 1):
            z = tokenizer.encode(pixels.flip(-1) if flipped else pixels)[0]
            sample = data[number + flipped]
            assert sample.file == name
            assert (sample.latent - z).abs().max() <= 1e-3 * z.abs().max()
    assert data[0].caption == "a first image"
    # Finished work is left alone.
    assert json.loads(dcht(*words, *options)[1])["encoded"] == 0
    code, printed, _ = dcht("decode", store, "--out", tmp_path / "out", "--ckpt", plain, "--json")
    assert (code, json.loads(printed)["images"]) == (0, 12)
    expected = tokenizer.decode(data[0].latent[None])[0]
    decoded = np.asarray(Image.open(tmp_path / "out" / "a.png.png")).astype(int)
    exact = ((expected.clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(decoded - exact).max() <= 1.0


def test_inspected_collated_and_where_indices_are_needed_refused(
    dcht: Command, images: Path, plain: Path, tmp_path: Path
) -> None:
    store = tmp_path / "latents"
    estimate = ("encode", images, "--out", store, "--ckpt", plain, "--size", "64", "--json")
    dry = json.loads(dcht(*estimate, "--dry-run")[1])
    assert dry["bytes"] == 6 * 2 * 8 * 4
    assert dcht(*estimate)[0] == 0
    latents = torch.stack([LatentDataset(store)[k].latent for k in range(6)])
    found = json.loads(dcht("inspect", store, "--json")[1])
    assert found["codebook_size"] is None
    assert (found["codes_used"], found["tokens"], found["perplexity"]) == (0, 0, 0.0)
    assert found["residual_std"] == pytest.approx(latents.double().std(correction=0).item())
    assert found["files_checked"] == 2
    assert "latents     continuous, without codes: mean" in dcht("inspect", store)[1]
    code, _, errors = dcht("inspect", store, "--out", tmp_path / "codes.png")
    assert (code, errors.count("\n")) == (2, 1) and "no codes to plot" in errors
    code, _, errors = dcht(
        "decode", store, "--out", tmp_path / "x", "--ckpt", plain, "--path", "discrete"
    )
    assert (code, errors.count("\n")) == (2, 1) and "has no path discrete" in errors

    (batch,) = DataLoader(LatentDataset(store), batch_size=6)
    assert torch.equal(batch.latent, latents)
    assert LatentDataset(store, fields=["file"])[-1].keys() == {"latent", "file"}
    opened = LatentsStore(store)
    for read in (lambda: opened.read(0), opened.load_all):
        with pytest.raises(UsageError, match="holds continuous latents, without indices"):
            read()


def test_a_store_of_indices_has_no_latents(
    dcht: Command, images: Path, saved_tokenizer: Path, tmp_path: Path
) -> None:
    store = tmp_path / "latents"
    dcht("encode", images, "--out", store, "--ckpt", saved_tokenizer, "--size", "64")
    with pytest.raises(UsageError, match=r"a latent is tokenizer\.lookup\(indices\) \+ residual"):
        LatentsStore(store).read_latent(0)

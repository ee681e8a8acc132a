"""The light decoder beside a tokenizer: found, kept, moved along, refused, and how near it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dcht import CheckpointError, Tokenizer, UsageError
from dcht.checkpoint import checkpoint_sha256
from dcht.config import LIGHT_PRESETS, PRESETS
from dcht.light import LIGHT, LightDecoder
from dcht.modules.autoencoder import Decoder
from dcht.reconstruct.show import psnr
from dcht.tokenizer import BUNDLED
from dcht.train.publish import TOKENIZER, export
from dcht.train_config import PublishDtype


def with_light(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with a light decoder of random weights."""
    layout = LIGHT_PRESETS["tiny"]
    network = Decoder(layout, resample=tokenizer.config.resample, latent_channels=8).eval()
    tokenizer.light = LightDecoder(layout, network)
    return tokenizer


@pytest.fixture
def latent(tokenizer: Tokenizer) -> torch.Tensor:
    return tokenizer.lookup(torch.arange(8).reshape(2, 2, 2))


@torch.no_grad()
def test_it_is_none_of_the_tokenizer_s_weights_and_moves_with_them(
    tokenizer: Tokenizer, latent: torch.Tensor
) -> None:
    keys, full = tokenizer.state_dict().keys(), tokenizer.decode(latent)
    torch.testing.assert_close(tokenizer.preview(latent), full, rtol=0, atol=0)
    light = with_light(tokenizer).light
    assert light is not None
    assert tokenizer.state_dict().keys() == keys
    assert torch.equal(tokenizer.preview(latent), light.network(latent))
    assert torch.equal(tokenizer.decode(latent), full)
    assert tokenizer.preview(tokenizer.quantize(latent).indices).shape == full.shape
    assert tokenizer.to(torch.bfloat16).preview(latent).dtype == torch.bfloat16
    assert tokenizer.to("meta").preview(latent).is_meta


@torch.no_grad()
def test_it_is_saved_and_found_and_changes_no_hash(
    tokenizer: Tokenizer, latent: torch.Tensor, tmp_path: Path
) -> None:
    alone = tokenizer.save_pretrained(tmp_path / "alone")
    assert Tokenizer.from_pretrained(tmp_path / "alone").light is None
    folder = tmp_path / "both"
    assert with_light(tokenizer).save_pretrained(folder) == alone == checkpoint_sha256(folder)
    found = Tokenizer.from_pretrained(folder)
    assert torch.equal(found.preview(latent), tokenizer.preview(latent))
    assert not torch.equal(found.preview(latent), found.decode(latent))
    # Rounded, the tokenizer has another hash, which is the one that its light decoder names.
    half = Tokenizer.from_pretrained(folder).save_pretrained(folder, dtype=torch.float16)
    assert half != alone
    assert json.loads((folder / LIGHT / "config.json").read_text())["tokenizer"] == half
    assert load_file(folder / LIGHT / "model.safetensors")["input.weight"].dtype == torch.float16
    # Another tokenizer in the same folder leaves nothing of it.
    found.light = None
    found.save_pretrained(folder)
    assert Tokenizer.from_pretrained(folder).light is None


def test_a_damaged_one_and_another_tokenizer_s_are_refused(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with_light(tokenizer).save_pretrained(tmp_path)
    path = tmp_path / LIGHT / "config.json"
    written = path.read_text()
    ours = str(tokenizer.sha256)
    for old, new, match in (
        (ours, "0" * 64, f"tokenizer {'0' * 64}, and beside it is {ours}"),
        (ours, "0", "expected a SHA-256"),
        ('"depths"', '"depth"', "unknown settings depth"),
        ("bn2d", "rms2d", "missing: norm|unexpected: norm|unexpected: stages"),
    ):  # fmt: skip
        path.write_text(written.replace(old, new))
        with pytest.raises(CheckpointError, match=match):
            Tokenizer.from_pretrained(tmp_path)
    path.write_text(written)
    weights = tmp_path / LIGHT / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="damaged"):
        Tokenizer.from_pretrained(tmp_path)


def test_an_export_onto_what_the_run_publishes_is_refused(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    tokenizer.save_pretrained(run / TOKENIZER)
    before = {path: path.read_bytes() for path in (run / TOKENIZER).iterdir()}
    (tmp_path / "link").symlink_to(run / TOKENIZER)
    for out in (run / TOKENIZER, tmp_path / "link"):
        for force in (False, True):
            with pytest.raises(UsageError, match="is what the run publishes itself"):
                export(run, out, force=force)
    assert {path: path.read_bytes() for path in (run / TOKENIZER).iterdir()} == before


def test_an_export_has_it_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with_light(tokenizer).save_pretrained(run / TOKENIZER)
    for out, dtype in ((tmp_path / "same", None), (tmp_path / "half", PublishDtype.float16)):
        export(run, out, dtype=dtype)
        assert Tokenizer.from_pretrained(out).light is not None
    files = [place / LIGHT / "model.safetensors" for place in (run / TOKENIZER, tmp_path / "same")]
    assert files[0].read_bytes() == files[1].read_bytes()
    # Over it, a run without one.
    tokenizer.light = None
    tokenizer.save_pretrained(run / TOKENIZER)
    export(run, tmp_path / "same", force=True)
    assert Tokenizer.from_pretrained(tmp_path / "same").light is None


def test_full_size_layouts_fit_their_tokenizers() -> None:
    for name, layout in LIGHT_PRESETS.items():
        preset = PRESETS[name]
        channels = preset.latent_channels
        with torch.device("meta"):
            light = Decoder(layout, resample=preset.resample, latent_channels=channels)
            full = Decoder(preset.decoder, resample=preset.resample, latent_channels=channels)
            size = 32 * preset.downsampling
            assert light(torch.empty(1, channels, 32, 32)).shape == (1, 3, size, size)
        counts = [sum(p.numel() for p in network.parameters()) for network in (light, full)]
        assert 3 * counts[0] < counts[1], name


@torch.no_grad()
def test_the_bundled_one_is_near_the_large_decoder_on_both_paths() -> None:
    tokenizer = Tokenizer.from_pretrained()
    assert tokenizer.light is not None
    assert sum(file.stat().st_size for file in (BUNDLED / LIGHT).iterdir()) < 1.2e6
    pixels = Image.new("RGB", (128, 128), (90, 140, 210))
    pixels.paste((200, 60, 40), (24, 30, 90, 100))
    latents = tokenizer.tokenize(pixels)
    for latent in (latents.z_q, latents.z_q + latents.residual):
        large = tokenizer.decode(latent)
        flat = large.mean(dim=(2, 3), keepdim=True).expand_as(large)
        near = psnr(tokenizer.preview(latent), large).item()
        assert near > 18
        assert near > psnr(flat, large).item() + 4

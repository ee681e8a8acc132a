"""The identities of a hybrid tokenizer (paper, section 3.1), and its checkpoints."""

import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dcht import PRESETS, CheckpointError, Tokenizer, UsageError
from dcht.modules.quantizer import VectorQuantizer

SIZES = [(64, 64), (96, 160), (256, 32)]


def images(height: int, width: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(batch, 3, height, width, generator=generator) * 2 - 1


@pytest.mark.parametrize(("height", "width"), SIZES)
@torch.inference_mode()
def test_residual_restores_the_continuous_path(
    tokenizer: Tokenizer, height: int, width: int
) -> None:
    pixels = images(height, width)
    z = tokenizer.encode(pixels)
    indices, z_q, residual = tokenizer.tokenize(pixels)
    assert z.shape == z_q.shape == residual.shape == (2, 8, height // 32, width // 32)
    assert indices.shape == (2, height // 32, width // 32)
    restored = tokenizer.decode(tokenizer.lookup(indices) + residual)
    assert (restored - tokenizer.decode(z)).abs().max() <= 1e-5
    assert torch.equal(tokenizer.residual(z), residual)
    # The two paths differ, or the identity above would say nothing.
    assert (tokenizer.decode(z_q) - tokenizer.decode(z)).abs().max() > 1e-3


@torch.inference_mode()
def test_codes_quantize_to_themselves(tokenizer: Tokenizer) -> None:
    indices, z_q, _ = tokenizer.tokenize(images(96, 96))
    again = tokenizer.quantize(z_q)
    assert torch.equal(again.indices, indices)
    assert torch.equal(again.z_q, z_q)
    every = torch.arange(64).reshape(1, 8, 8)
    assert torch.equal(tokenizer.quantize(tokenizer.lookup(every)).indices, every)


@torch.inference_mode()
def test_latent_and_codes_have_unit_length(tokenizer: Tokenizer) -> None:
    pixels = images(64, 64)
    for latent in (tokenizer.encode(pixels), tokenizer.quantize(tokenizer.encode(pixels)).z_q):
        assert torch.allclose(latent.norm(dim=1), torch.ones(2, 2, 2), atol=1e-6)


@pytest.mark.parametrize("at_once", [7, 64, 2048])
@torch.inference_mode()
def test_nearest_code_is_the_nearest(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("dcht.modules.quantizer.CODES_AT_ONCE", at_once)
    z = tokenizer.encode(images(96, 96))
    assert isinstance(tokenizer.quantizer, VectorQuantizer)
    codes = tokenizer.quantizer.codes()
    distance = (z[:, None] - codes[None, :, :, None, None]).square().sum(dim=2)
    assert torch.equal(tokenizer.quantize(z).indices, distance.argmin(dim=1))


@torch.inference_mode()
def test_reconstruct_is_the_named_path(tokenizer: Tokenizer) -> None:
    pixels = images(64, 64)
    z = tokenizer.encode(pixels)
    assert torch.equal(tokenizer.reconstruct(pixels), tokenizer.decode(z))
    discrete = tokenizer.decode(tokenizer.quantize(z).z_q)
    assert torch.equal(tokenizer.reconstruct(pixels, "discrete"), discrete)
    with pytest.raises(UsageError, match="hybrid or discrete"):
        tokenizer.reconstruct(pixels, "both")  # type: ignore[arg-type]


def test_training_quantizer_gradients(tokenizer: Tokenizer) -> None:
    z = tokenizer.encode(images(64, 64)).detach().requires_grad_()
    quantizer = tokenizer.require_quantizer()
    trained = quantizer.forward_train(z)
    # Straight-through: the value is z_q, the gradient is z's own.
    assert torch.allclose(trained.z_q, tokenizer.quantize(z).z_q, atol=1e-6)
    (gradient,) = torch.autograd.grad(trained.z_q.sum(), z, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(z))
    # The codebook loss moves codes only, the commitment loss the encoder only.
    codebook = tokenizer.get_parameter("quantizer.codebook")
    (code,) = torch.autograd.grad(trained.losses["codebook"], codebook, retain_graph=True)
    assert code.abs().sum() > 0
    (commitment,) = torch.autograd.grad(trained.losses["commitment"], z)
    assert commitment.abs().sum() > 0
    assert torch.allclose(trained.losses["commitment"], 0.25 * trained.losses["codebook"])


@torch.inference_mode()
def test_images_of_a_batch_do_not_meet(tokenizer: Tokenizer) -> None:
    pixels = images(64, 64, batch=4)
    together = tokenizer.tokenize(pixels)
    alone = tokenizer.tokenize(pixels[2:3])
    assert torch.equal(together.indices[2:3], alone.indices)
    assert (together.residual[2:3] - alone.residual).abs().max() <= 1e-5


@pytest.mark.parametrize("shape", [(2, 3, 250, 256), (2, 3, 0, 32), (2, 1, 64, 64), (3, 64, 64)])
def test_wrong_images_are_named(tokenizer: Tokenizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"multiple of 32; the nearest is|expected \(b, 3, H, W\)"):
        tokenizer.encode(torch.zeros(shape))


@pytest.mark.parametrize("index", [-1, 64])
def test_an_index_outside_the_codebook_is_named(tokenizer: Tokenizer, index: int) -> None:
    with pytest.raises(UsageError, match="codebook has 0 to 63"):
        tokenizer.lookup(torch.full((1, 2, 2), index))


def test_without_a_quantizer_it_is_an_autoencoder() -> None:
    tokenizer = Tokenizer(replace(PRESETS["tiny"], codebook_size=None)).eval()
    with torch.inference_mode():
        z = tokenizer.encode(images(64, 64))
        assert not torch.allclose(z.norm(dim=1), torch.ones(2, 2, 2))
        assert tokenizer.decode(z).shape == (2, 3, 64, 64)
        for call in (tokenizer.quantize, tokenizer.residual):
            with pytest.raises(CheckpointError, match="no quantizer"):
                call(z)


@torch.inference_mode()
def test_checkpoint_round_trip(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.set_residual_std(0.125)
    sha256 = tokenizer.save_pretrained(tmp_path)
    loaded = Tokenizer.from_pretrained(tmp_path)
    assert loaded.config == tokenizer.config
    assert loaded.config.residual_std == 0.125
    assert not loaded.training
    pixels = images(64, 64)
    assert torch.equal(loaded.reconstruct(pixels), tokenizer.reconstruct(pixels))
    content = b"".join((tmp_path / n).read_bytes() for n in ("config.json", "model.safetensors"))
    assert sha256 == tokenizer.sha256 == loaded.sha256 == hashlib.sha256(content).hexdigest()


@torch.inference_mode()
def test_half_precision_file_loads_as_what_was_rounded(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path, dtype=torch.float16)
    loaded = Tokenizer.from_pretrained(tmp_path)
    assert loaded.encoder.output.weight.dtype == torch.float32
    assert torch.equal(loaded.encoder.output.weight, tokenizer.encoder.output.weight.half().float())
    again = tmp_path / "again"
    assert (
        loaded.save_pretrained(again, dtype=torch.float16)
        == Tokenizer.from_pretrained(tmp_path).sha256
    )


def test_half_precision_keeps_what_it_cannot_hold(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A running variance above 65504 became infinite in the file, and every image NaN."""
    name = "decoder.stages.3.1.norm.running_var"
    tokenizer.state_dict()[name].fill_(1e5)
    tokenizer.save_pretrained(tmp_path, dtype=torch.float16)
    loaded = Tokenizer.from_pretrained(tmp_path).state_dict()
    assert torch.equal(loaded[name], torch.full_like(loaded[name], 1e5))


def test_damaged_checkpoints_are_refused(saved_tokenizer: Path) -> None:
    def refuse(match: str) -> None:
        with pytest.raises(CheckpointError, match=match):
            Tokenizer.from_pretrained(saved_tokenizer)

    config_path, weights_path = (saved_tokenizer / n for n in ("config.json", "model.safetensors"))
    config, weights = config_path.read_text(), weights_path.read_bytes()
    settings = json.loads(config)

    config_path.write_text(json.dumps(settings | {"depht": 3}))
    refuse("unknown settings depht")
    config_path.write_text(json.dumps(settings | {"latent_channels": "8"}))
    refuse("'8' is not of type int")
    config_path.write_text(json.dumps(settings | {"resample": "bilinear"}))
    refuse("'bilinear' is not one of")
    config_path.write_text(json.dumps(settings | {"codebook_size": None}))
    refuse("unexpected: quantizer.codebook")
    config_path.write_text(json.dumps(settings | {"codebook_size": 128}))
    refuse(r"another shape: quantizer.codebook \(64, 8\), expected \(128, 8\)")
    config_path.write_text("{")
    refuse("not JSON")
    config_path.write_text(config)
    weights_path.write_bytes(weights[:-10])
    refuse("damaged")
    weights_path.unlink()
    refuse("is missing")


def test_a_name_that_is_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a Hub id"):
        Tokenizer.from_pretrained("./no/such/folder")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="could not be fetched from the Hub"):
        Tokenizer.from_pretrained("nobody/nothing-at-all")


def test_layouts_that_cannot_be_built_are_named() -> None:
    tiny = PRESETS["tiny"]
    with pytest.raises(ValueError, match="needs 6 entries"):
        replace(tiny, encoder=replace(tiny.encoder, depths=[1, 1]))
    with pytest.raises(ValueError, match="not a multiple of latent_channels 7"):
        replace(tiny, latent_channels=7)


def test_the_bundled_tokenizer_saved_again_is_the_same_bytes(tmp_path: Path) -> None:
    bundled = Tokenizer.from_pretrained()
    sha256 = bundled.sha256
    assert bundled.save_pretrained(tmp_path, dtype=torch.float16) == sha256


def test_a_tokenizer_that_changed_has_no_hash(saved_tokenizer: Path, tmp_path: Path) -> None:
    """A store of its latents is none of the checkpoint's; what is saved has a hash of its own."""
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    sha256 = tokenizer.sha256
    assert sha256 is not None
    assert tokenizer.train().eval().sha256 == sha256
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).sha256)"
    elsewhere = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(tokenizer), capture_output=True
    )
    assert elsewhere.stdout.decode().strip() == sha256
    assert tokenizer.to(torch.bfloat16).sha256 == sha256
    assert tokenizer.to(torch.float32).sha256 is None
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    weights = torch.optim.AdamW(tokenizer.parameters(), lr=0.1, fused=True)
    tokenizer(torch.zeros(1, 3, 64, 64)).sum().backward()
    weights.step()  # writes into memory, which no version tells
    assert tokenizer.sha256 is None
    assert tokenizer.save_pretrained(tmp_path / "new") == tokenizer.sha256 != sha256
    half = tokenizer.save_pretrained(tmp_path / "half", dtype=torch.float16)
    assert half != tokenizer.sha256 is not None

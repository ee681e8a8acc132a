from dataclasses import replace

import pytest
import torch

from dcht import PRESETS, CheckpointError, Tokenizer, UsageError
from dcht.convert.latent_norm import LATENT_NORM
from dcht.train.start import layout_of, preset_of, start_tokenizer


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


def test_a_published_tokenizer_is_taken_over_whole(tokenizer, tmp_path):
    tokenizer.set_residual_std(0.1)
    tokenizer.save_pretrained(tmp_path)
    started = start_tokenizer(PRESETS["tiny"], str(tmp_path))
    assert equal(started, tokenizer)
    assert started.config.residual_std == 0.1
    assert not equal(start_tokenizer(PRESETS["tiny"], None), tokenizer)


def test_a_plain_autoencoder_gives_all_but_the_codebook(tmp_path):
    plain = Tokenizer(replace(PRESETS["tiny"], codebook_size=None))
    plain.save_pretrained(tmp_path)
    started = start_tokenizer(PRESETS["tiny"], str(tmp_path))
    assert equal(started.encoder, plain.encoder)
    unit = torch.nn.functional.normalize(torch.randn(1, 8, 2, 2), dim=1)
    with torch.no_grad():
        decoded = started.eval().decoder(unit), plain.eval().decoder(LATENT_NORM * unit)
    torch.testing.assert_close(*decoded, atol=1e-4, rtol=1e-4)
    assert started.get_parameter("quantizer.codebook").shape == (64, 8)


def test_a_codebook_of_another_size_is_left_behind(tokenizer, tmp_path):
    """Encoder and decoder bit for bit; the residual was that of the other codebook."""
    tokenizer.set_residual_std(0.1)
    tokenizer.save_pretrained(tmp_path)
    started = start_tokenizer(replace(PRESETS["tiny"], codebook_size=32), str(tmp_path))
    assert equal(started.encoder, tokenizer.encoder)
    assert equal(started.decoder, tokenizer.decoder)
    assert started.get_parameter("quantizer.codebook").shape == (32, 8)
    assert started.config.residual_std is None


def test_a_codebook_that_is_used_before_it_is_trained_must_be_given(saved_tokenizer):
    same, other = PRESETS["tiny"], replace(PRESETS["tiny"], codebook_size=32)
    start_tokenizer(same, str(saved_tokenizer), needs_codebook=True)
    for config, source in ((other, str(saved_tokenizer)), (same, None)):
        size = config.codebook_size
        with pytest.raises(UsageError, match=f"init_from={source} gives no codebook of {size} "):
            start_tokenizer(config, source, needs_codebook=True)


def test_another_layout_is_refused_by_name(saved_tokenizer):
    other = replace(PRESETS["tiny"], latent_channels=4)
    with pytest.raises(UsageError, match=r"another layout.*\(.*latent_channels.*\)"):
        start_tokenizer(other, str(saved_tokenizer))
    with pytest.raises(CheckpointError):
        start_tokenizer(other, "./nowhere")


def test_a_deeper_tokenizer_begins_with_the_images_of_the_shallower(tokenizer, tmp_path):
    """Blocks beyond the source's are the identity, in both coders; and can learn."""
    tokenizer.eval().save_pretrained(tmp_path)
    ours = PRESETS["tiny"]
    deeper = replace(
        ours,
        encoder=replace(ours.encoder, depths=[0, 2, 1, 1, 3, 1]),
        decoder=replace(ours.decoder, depths=[0, 3, 1, 2, 1, 1]),
    )
    started = start_tokenizer(deeper, str(tmp_path)).eval()
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(started.encode(images), tokenizer.encode(images))
        assert torch.equal(started.reconstruct(images), tokenizer.reconstruct(images))
    started.train().decode(started.encode(images)).square().mean().backward()
    new = started.decoder.stages[-1][-1]  # type: ignore[index]
    assert new.norm.weight.grad.abs().sum() > 0
    for depths in ([0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]):  # shallower; and another stem
        other = replace(ours, decoder=replace(ours.decoder, depths=depths))
        with pytest.raises(UsageError, match=r"another layout.*\(decoder\)"):
            start_tokenizer(other, str(tmp_path))


def test_small_deep_starts_from_small(tmp_path):
    """As what ships began from the one of release 0.1.0."""
    small = Tokenizer(PRESETS["small"]).eval()
    small.save_pretrained(tmp_path)
    started = start_tokenizer(PRESETS["small_deep"], str(tmp_path)).eval()
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(started.reconstruct(images), small.reconstruct(images))
    half = 2 * sum(value.numel() for value in started.state_dict().values())
    assert half < 18e6


def test_the_bundled_tokenizer_is_a_start_like_any_other():
    started = start_tokenizer(PRESETS["small_deep"], "bundled", needs_codebook=True)
    assert equal(started, Tokenizer.from_pretrained())
    with pytest.raises(UsageError, match=r"another layout.*; choose tokenizer=small_deep$"):
        start_tokenizer(PRESETS["tiny"], "bundled")


def test_advice_names_the_preset_that_has_a_layout():
    small = replace(PRESETS["small"], residual_std=0.1)
    assert preset_of(small) == "choose tokenizer=small"
    codes = replace(small, codebook_size=100)
    assert preset_of(codes) == "choose tokenizer=small tokenizer.codebook_size=100"
    assert "no preset" in preset_of(replace(small, latent_channels=16))


def test_the_layout_of_a_start_is_the_checkpoints(saved_tokenizer, tmp_path):
    big = PRESETS["f32c32"]
    assert layout_of(str(saved_tokenizer), big) == PRESETS["tiny"]
    other_codes = replace(PRESETS["tiny"], codebook_size=32)
    assert layout_of(str(saved_tokenizer), other_codes) == other_codes
    plain = Tokenizer(replace(PRESETS["tiny"], codebook_size=None))
    plain.save_pretrained(tmp_path / "plain")
    assert layout_of(str(tmp_path / "plain"), big) == replace(PRESETS["tiny"], codebook_size=16384)
    assert layout_of("bundled", big) == replace(PRESETS["small_deep"], residual_std=None)

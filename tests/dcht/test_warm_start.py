from dataclasses import replace

import pytest
import torch

from dcht import PRESETS, CheckpointError, Tokenizer, UsageError
from dcht.latent_norm import LATENT_NORM
from dcht.warm_start import start_tokenizer


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
    assert started.require_quantizer().codebook.shape == (64, 8)


def test_another_layout_is_refused_by_name(saved_tokenizer):
    other = replace(PRESETS["tiny"], codebook_size=32)
    with pytest.raises(UsageError, match=r"another layout.*\(codebook_size\)"):
        start_tokenizer(other, str(saved_tokenizer))
    with pytest.raises(CheckpointError):
        start_tokenizer(other, "./nowhere")

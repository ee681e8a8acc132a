"""FSQ against the equations of its paper, and as the quantizer of a tokenizer and a store."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dcht import PRESETS, CheckpointError, LatentsStore, Tokenizer, UsageError
from dcht.checkpoint import to_dict, to_written
from dcht.config import TokenizerConfig
from dcht.latents.decode import decode_store
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings
from dcht.modules.fsq import FiniteScalarQuantizer

LEVELS = [8, 5, 5, 5]
"""The paper's for 2^10 codes."""


def with_levels(levels: list[int]) -> TokenizerConfig:
    return replace(
        PRESETS["tiny"],
        latent_channels=len(levels),
        codebook_size=math.prod(levels),
        fsq_levels=levels,
    )


def fsq_tokenizer(levels: list[int]) -> Tokenizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tokenizer(with_levels(levels)).eval()


def reference(z: np.ndarray, levels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Indices and codes of z (n, c): the code of the paper's appendix A.1, in numpy."""
    counts = np.array(levels)
    basis = np.concatenate(([1], np.cumprod(counts[:-1])))
    half_l = (counts - 1) * (1 - 1e-3) / 2
    offset = np.where(counts % 2 == 1, 0.0, 0.5)
    shift = np.tan(offset / half_l)
    quantized = np.round(np.tanh(z + shift) * half_l - offset)
    half_width = counts // 2
    codes = quantized / half_width
    return ((codes * half_width + half_width) * basis).sum(axis=-1).astype(np.int64), codes


@pytest.mark.parametrize("levels", [LEVELS, [8, 8, 8], [7, 5, 5, 5, 5], [2, 3, 4]])
def test_indices_and_codes_are_the_papers(levels: list[int]) -> None:
    z = 2 * np.random.default_rng(0).standard_normal((4096, len(levels)))
    indices, codes = reference(z, levels)
    quantizer = FiniteScalarQuantizer(levels)
    encoded = torch.from_numpy(z).reshape(1, 64, 64, -1).permute(0, 3, 1, 2)
    found = quantizer(quantizer.normalize(encoded))
    assert torch.equal(found.indices.flatten(), torch.from_numpy(indices))
    ours = found.z_q.permute(0, 2, 3, 1).reshape(4096, -1)
    torch.testing.assert_close(ours, torch.from_numpy(codes).float(), rtol=0, atol=1e-6)
    assert len(np.unique(indices)) > 0.9 * min(math.prod(levels), 300)


def test_known_answers() -> None:
    quantizer = FiniteScalarQuantizer(LEVELS)
    assert quantizer.size == 1000
    named = torch.tensor([[[0, 1, 8, 500, 999]]])
    assert quantizer.lookup(named)[0, :, 0].T.tolist() == [
        [-1, -1, -1, -1],
        [-0.75, -1, -1, -1],
        [-1, -0.5, -1, -1],
        [0, 0, 0, 0],
        [0.75, 1, 1, 1],
    ]
    # Of 2 levels -1 and 0, of 3 levels -1, 0 and 1: the mean square is (1/2 + 2/3) / 2.
    assert FiniteScalarQuantizer([2, 3]).inverse_rms == pytest.approx((7 / 12) ** -0.5)


@pytest.mark.parametrize("levels", [LEVELS, [2, 3, 4], [8, 6, 5]])
def test_indices_name_codes_one_to_one(levels: list[int]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    every = torch.arange(quantizer.size).reshape(1, 1, -1)
    codes = quantizer.lookup(every)
    assert len(codes[0, :, 0].T.unique(dim=0)) == quantizer.size
    again = quantizer(codes)
    assert torch.equal(again.indices, every) and torch.equal(again.z_q, codes)
    for channel, count in enumerate(levels):
        assert len(codes[0, channel].unique()) == count
    # Anything within half a level has the same code, and what is beyond the outermost has that.
    assert torch.equal(quantizer(codes + 0.49 / 4).indices, every)
    assert (quantizer(torch.full_like(codes, 50.0)).indices == quantizer.size - 1).all()


def test_the_gradient_goes_straight_through() -> None:
    quantizer = FiniteScalarQuantizer(LEVELS)
    z = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    trained = quantizer.forward_train(z)
    assert trained.losses == {} and quantizer.codebook is None
    torch.testing.assert_close(trained.z_q, quantizer(z).z_q)
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((weights * trained.z_q).sum(), z)
    assert torch.equal(gradient, weights)


def test_nan_has_no_code() -> None:
    z = torch.zeros(1, 4, 1, 2)
    z[0, 2, 0, 1] = torch.nan
    indices, z_q = FiniteScalarQuantizer(LEVELS)(z)
    assert indices.tolist() == [[[500, 1000]]]
    assert z_q[..., 0].isfinite().all() and z_q[..., 1].isnan().all()


@torch.inference_mode()
def test_a_tokenizer_of_levels(tmp_path: Path) -> None:
    tokenizer = fsq_tokenizer(LEVELS)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    indices, z_q, residual = tokenizer.tokenize(images)
    z = tokenizer.encode(images)
    assert z.abs().max() <= 1 and torch.equal(z_q + residual, z_q + (z - z_q))
    assert residual.abs().max() <= 0.25 + 1e-6  # half a level of 5: 1 / 2 / 2
    assert torch.equal(tokenizer.lookup(indices), z_q)
    with pytest.raises(UsageError, match="the codebook has 0 to 999"):
        tokenizer.lookup(indices + 1000)
    tokenizer.save_pretrained(tmp_path)
    loaded = Tokenizer.from_pretrained(tmp_path)
    assert loaded.config == tokenizer.config
    assert torch.equal(loaded.tokenize(images).indices, indices)
    assert "quantizer" not in "".join(load_file(tmp_path / "model.safetensors"))


def test_levels_are_in_the_config_of_those_tokenizers_that_have_them() -> None:
    assert "fsq_levels" not in to_written(PRESETS["tiny"])
    assert to_dict(PRESETS["tiny"])["fsq_levels"] is None
    assert to_written(with_levels(LEVELS))["fsq_levels"] == LEVELS


def test_levels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"codebook_size is 64; fsq_levels=\[8, 5\] make 40"):
        replace(PRESETS["tiny"], latent_channels=2, fsq_levels=[8, 5])
    with pytest.raises(UsageError, match="fsq_levels has 2 entries for 8 latent_channels"):
        replace(PRESETS["tiny"], fsq_levels=[8, 8])
    with pytest.raises(UsageError, match="fsq_levels is"):
        replace(PRESETS["tiny"], latent_channels=2, codebook_size=8, fsq_levels=[8, 1])


@pytest.mark.parametrize(
    ("levels", "kind"),
    [([16, 16, 16, 16], torch.uint16), ([17, 16, 16, 16], torch.uint32)],
)
def test_a_store_has_wide_indices_where_the_codes_need_them(
    images: Path, tmp_path: Path, levels: list[int], kind: torch.dtype
) -> None:
    """65,536 codes are what a uint16 names."""
    made = fsq_tokenizer(levels)
    made.save_pretrained(tmp_path / "tokenizer")
    out = tmp_path / "latents"
    encode_images(made, images, out, EncodeSettings(size=(64, 32)))
    assert load_file(out / "shard-00000.safetensors")["indices"].dtype == kind
    store = LatentsStore(out)
    indices, residual = store.load_all()
    assert store.plan.codebook_size == math.prod(levels) and indices.max() < math.prod(levels)
    z = made.lookup(indices) + residual.float()
    assert torch.equal(made.quantize(z).indices, indices)
    decode_store(made, store, tmp_path / "decoded")
    assert len(list((tmp_path / "decoded").rglob("*.png"))) == len(store)


def test_a_store_of_the_other_width_is_refused(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "latents"
    made = fsq_tokenizer([17, 16, 16, 16])
    made.save_pretrained(tmp_path / "tokenizer")
    encode_images(made, images, out, EncodeSettings(size=(64, 32)))
    text = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(text.replace('"codebook_size": 69632', '"codebook_size": 9'))
    with pytest.raises(CheckpointError, match=r"indices is U32 .*expected U16"):
        LatentsStore(out).read(0)

"""Our tokenizer against the published release's code, on the recorded cases."""

import json
import os
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file

from dcht import Tokenizer
from dcht.config import VARIANTS
from dcht.convert.keys import Family, their_key
from dcht.convert.published import convert
from dcht.convert.sources import read_source
from dcht.images import to_pil

SHARED = Path(__file__).parents[2] / "shared" / "fixtures" / "release"
CASES = Path(os.environ.get("RELEASE_FIXTURES", SHARED)) / "tokenizer"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no fixtures at {CASES}")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The recorded checkpoint as `dcht convert` reads it: its settings and its weights."""
    return convert(read_source(CASES))[0]


def tokens_to_grid(tokens: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The release keeps residuals as (b, h w, c)."""
    return rearrange(tokens, "b (h w) c -> b c h w", h=like.shape[2])


@pytest.mark.parametrize("path", sorted(CASES.glob("case_*.safetensors")), ids=lambda p: p.stem)
@torch.inference_mode()
def test_case(tokenizer: Tokenizer, path: Path) -> None:
    case = load_file(path)
    # The losses are the release's, beta included.
    trained = tokenizer.require_quantizer().forward_train(case["z"])
    assert torch.allclose(trained.losses["codebook"], case["codebook_loss"], rtol=1e-4)
    assert torch.allclose(trained.losses["commitment"], case["commitment_loss"], rtol=1e-4)
    assert (tokenizer.encoder(case["image"]) - case["z_raw"]).abs().max() <= 3e-4
    z = tokenizer.encode(case["image"])
    assert (tokenizer.encode_tiled(case["image"], tile=64) - case["z"]).abs().max() <= 1e-5
    indices, z_q, residual = tokenizer.tokenize(case["image"])
    assert (z - case["z"]).abs().max() <= 1e-5
    assert torch.equal(indices.flatten(), case["indices"].long().flatten())
    assert (z_q - case["z_q"]).abs().max() <= 1e-5
    expected = tokens_to_grid(case["residual"], z)
    assert (residual - expected).abs().max() <= 1e-5
    for name, latent in {
        "dec_zq": z_q,
        "dec_zq_plus_residual": z_q + residual,
        "dec_zq_plus_half_residual": z_q + residual / 2,
    }.items():
        assert (tokenizer.decode(latent) - case[name]).abs().max() <= 1e-4, name
        assert (tokenizer.decode_tiled(latent, tile=64) - case[name]).abs().max() <= 1e-4, name
    assert torch.equal(tokenizer.lookup(indices), z_q)


def test_published_keys_are_all_known() -> None:
    """Every key and shape of the published checkpoint has its place in variant dc-ht."""
    path = SHARED / "keys_dc_ht.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    shapes = {key: shape for key, (shape, _) in json.loads(path.read_text())["keys"].items()}
    config = VARIANTS["dc-ht"]
    with torch.device("meta"):
        ours = Tokenizer(config).state_dict()
    theirs = {their_key(key, config, Family.EFFICIENTVIT): value for key, value in ours.items()}
    assert theirs.keys() == shapes.keys()
    assert all(list(theirs[key].shape) == list(shape) for key, shape in shapes.items())


@pytest.mark.parametrize("path", sorted(CASES.glob("case_*.safetensors")), ids=lambda p: p.stem)
@torch.inference_mode()
def test_eight_bits(tokenizer: Tokenizer, path: Path) -> None:
    """The release truncates where we round: a shift by half a level makes the two comparable."""
    case = load_file(path)
    if "uint8_zq_plus_residual" not in case:
        pytest.skip(f"{path.name} has no image of 8 bits")
    images = tokenizer.decode(case["z_q"] + tokens_to_grid(case["residual"], case["z_q"]))
    for pixels, expected in zip(images, case["uint8_zq_plus_residual"], strict=True):
        ours = torch.frombuffer(bytearray(to_pil(pixels - 1 / 255).tobytes()), dtype=torch.uint8)
        flat = rearrange(expected, "c h w -> (h w c)")
        difference = (ours.int() - flat.int()).abs()
        assert difference.max() <= 1
        assert (difference > 0).float().mean() <= 1e-3

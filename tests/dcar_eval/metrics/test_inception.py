"""The network that is put together from pytorch-fid's blocks is pytorch-fid's network."""

import hashlib
from pathlib import Path

import pytest
import torch
from pytorch_fid import inception as reference

from dcar_eval.metrics import inception
from dcar_eval.metrics.inception import Inception, load_inception
from dcht.errors import CheckpointError, UsageError


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights by the names of the published file."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Inception().network.state_dict()


def test_the_download_is_the_one_that_the_package_names() -> None:
    assert inception.URL == reference.FID_WEIGHTS_URL


def test_features_equal_those_of_pytorch_fid(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / inception.FILE
    torch.save(state, path)
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setenv("DCAR_EVAL_INCEPTION", str(tmp_path))
    monkeypatch.setattr(reference, "load_state_dict_from_url", lambda *_, **__: state)
    images = torch.randint(0, 256, (2, 3, 96, 64), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        theirs = reference.InceptionV3().eval()(images / 255)[0][..., 0, 0]
        ours = load_inception()(images.to(torch.uint8))
    assert ours.shape == (2, 2048)
    assert ours.std() > 0
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6 * float(theirs.abs().max()))


def test_tensorflows_resize_has_a_closed_form() -> None:
    """Output i of a ramp is its value at i * length / side, flat behind the last pixel."""
    ramp = torch.arange(96.0).expand(1, 1, 40, 96)
    found = inception.resize_tf1(ramp, 299)
    expected = (torch.arange(299) * (96 / 299)).clamp_max(95)
    assert found.shape == (1, 1, 299, 299)
    assert torch.allclose(found[0, 0], expected.expand(299, 299), atol=1e-4)
    assert torch.allclose(inception.resize_tf1(ramp.mT, 299)[0, 0].T, found[0, 0])
    # Downwards it picks pixels, without any averaging.
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(inception.resize_tf1(noise, 32), noise[..., ::2, ::2])


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DCAR_EVAL_INCEPTION", raising=False)
    with pytest.raises(UsageError, match=r"are not at .*; get them with `python -m dcar_eval"):
        load_inception(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(UsageError, match="hub/checkpoints/pt_inception"):
        load_inception()
    (tmp_path / "other.pth").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="has SHA-256 "):
        load_inception(tmp_path / "other.pth")

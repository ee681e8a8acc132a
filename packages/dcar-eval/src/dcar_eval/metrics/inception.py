"""pytorch-fid's Inception network, with its weights from a file whose SHA-256 is checked.

The package's own class downloads while it is being built. Here the network is put together from
its blocks, and the weights come from a path, from where `DCAR_EVAL_INCEPTION` points, or from the
cache of torch.hub. They are fetched only by this command:

    python -m dcar_eval.inception --out DIR
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dcht.errors import CheckpointError, UsageError

WEIGHTS_VARIABLE = "DCAR_EVAL_INCEPTION"
FILE = "pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
DIM = 2048
SIDE = 299
HOW_TO_GET = (
    f"get them with `python -m dcar_eval.inception --out DIR` and set {WEIGHTS_VARIABLE}=DIR"
)


class Inception(nn.Module):
    """Features of the last pooling layer; weights are random until loaded, see `load_inception`.

    Images are resized as pytorch-fid does it, bilinearly without antialiasing; or, with `tf1`, as
    the TensorFlow 1 graph does it that the weights come from, and torch-fidelity after it.
    """

    classifier: Tensor

    def __init__(self, *, tf1: bool = False) -> None:
        super().__init__()
        self.tf1 = tf1
        # Not at import: torchvision and pytorch-fid take seconds.
        from pytorch_fid.inception import (
            FIDInceptionA,
            FIDInceptionC,
            FIDInceptionE_1,
            FIDInceptionE_2,
        )
        from torchvision.models import Inception3

        self.network = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
        for name, block in {
            "5b": FIDInceptionA(192, pool_features=32),
            "5c": FIDInceptionA(256, pool_features=64),
            "5d": FIDInceptionA(288, pool_features=64),
            "6b": FIDInceptionC(768, channels_7x7=128),
            "6c": FIDInceptionC(768, channels_7x7=160),
            "6d": FIDInceptionC(768, channels_7x7=160),
            "6e": FIDInceptionC(768, channels_7x7=192),
            "7b": FIDInceptionE_1(1280),
            "7c": FIDInceptionE_2(DIM),
        }.items():
            setattr(self.network, f"Mixed_{name}", block)
        self.requires_grad_(False)

    def load(self, state: dict[str, Tensor]) -> None:
        """Take the weights file's content, drop the classifier, switch to eval mode."""
        self.network.load_state_dict(state)
        # Not saved: the extractor's hash is of what makes the features.
        self.register_buffer("classifier", self.network.fc.weight.detach(), persistent=False)
        self.network.fc = nn.Identity()  # type: ignore[assignment]
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, 2048) of images (b, 3, H, W), uint8."""
        if self.tf1:
            return self.network((resize_tf1(images.float(), SIDE) - 128) / 128)
        x = F.interpolate(images.float() / 255, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return self.network(2 * x - 1)

    def to_logits(self, features: Tensor) -> Tensor:
        """Logits (b, 1008) of features (b, 2048), without the bias, as the Inception Score has it.

        (Salimans et al. 2016 take the graph's `logits` before the bias; torch-fidelity too.)
        """
        return features @ rearrange(self.classifier, "k d -> d k")


def resize_tf1(images: Tensor, side: int) -> Tensor:
    """Images (b, c, H, W) at (b, c, side, side), bilinearly as TensorFlow 1 has it.

    Output pixel i is taken at i * H / side, the corners, not the centers, of pixels being aligned.
    """
    for dim in (2, 3):
        length = images.shape[dim]
        # In float32 as there: the whole part of a product may hang on its last bit.
        positions = torch.arange(side, dtype=torch.float32, device=images.device) * (length / side)
        low = positions.long()
        high = (low + 1).clamp_max(length - 1)
        weight = positions - low
        if dim == 2:
            weight = rearrange(weight, "h -> h 1")
        first, second = images.index_select(dim, low), images.index_select(dim, high)
        images = first + (second - first) * weight
    return images


def load_inception(weights: str | Path | None = None, *, tf1: bool = False) -> Inception:
    """The network with pytorch-fid's weights, frozen and in eval mode.

    Args:
        weights: the file, or the folder it is in. None looks where `DCAR_EVAL_INCEPTION` points,
            then into the cache of torch.hub.
        tf1: see `Inception`.

    Raises:
        UsageError: there is no such file; the message says how to get it.
        CheckpointError: it is another file, by its SHA-256.
    """
    place = weights or os.environ.get(WEIGHTS_VARIABLE)
    path = Path(place) if place else Path(torch.hub.get_dir()) / "checkpoints"
    path = path / FILE if path.is_dir() or not place else path
    if not path.is_file():
        raise UsageError(f"FID's Inception weights are not at {path}; {HOW_TO_GET}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise CheckpointError(f"{path} has SHA-256 {found}; pytorch-fid's {FILE} has {SHA256}")
    model = Inception(tf1=tf1)
    model.load(torch.load(path, map_location="cpu", weights_only=True))
    return model


def download(out: str | Path) -> Path:
    """Fetch pytorch-fid's weights (96 MB) into a folder; gives the file.

    Raises:
        RuntimeError: what came has another SHA-256.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(URL, str(out / FILE), hash_prefix=SHA256)
    return out / FILE

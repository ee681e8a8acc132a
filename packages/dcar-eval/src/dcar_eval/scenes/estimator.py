"""Fidelity without the true scene: what an image's objects would be worth beside it, estimated.

The recognizer's convolutions read an image at 256 x 256 pixels and say of every cell of 8 x 8 how
far it is from the truth: its PSNR, and its part in the correlation of detail
(`dcar_eval.metrics.likeness`). Both are pooled over the boxes of the objects found. It was
trained on spoiled scenes and on images of both releases' checkpoints, beside their truths
(`benchmarks/paper/estimator.sh`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange, reduce
from PIL import Image
from torch import Tensor, nn

from dcar_eval.geneval import Detection
from dcar_eval.scenes.recognizer import CHECKPOINTS, STRIDE, WIDTHS, Trunk, shrink
from dcht.checkpoint import (
    build_on_meta,
    checkpoint_sha256,
    from_dict,
    load_strict,
    read_config,
    read_tensors,
    to_dict,
    write_checkpoint,
)
from dcht.images import to_tensor

BUNDLED = CHECKPOINTS / "estimator"
SIDE = 256
"""Pixels that an image is resized to before it is read: at 128, as the recognizer has it, the blur
of a tokenizer can hardly be seen."""
CELLS = SIDE // STRIDE
WORST, BEST = 12.0, 35.0
"""PSNR in dB: an estimate is not below or above."""
TYPICAL, SCALE = 22.0, 6.0
"""PSNR in dB of a cell where the network answers 0, and how far 1 is from it."""


@dataclass(kw_only=True)
class EstimatorConfig:
    """How an estimator was made, and what it is known to be worth."""

    training: dict[str, Any] = field(default_factory=dict)
    """Seed, steps, images."""
    worth: dict[str, Any] = field(default_factory=dict)
    """On images it was not trained on: correlation with the true PSNR of the objects, and mean
    distance from it in dB."""


class Estimate(NamedTuple):
    """Of the objects of an image, or (tensors, (b,)) of a batch."""

    psnr: Tensor
    """In dB, `WORST` to `BEST`."""
    detail: Tensor
    """As `likeness.Likeness` has it, -1 to 1."""


class Estimator(Trunk):
    """The network."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        self.config = config
        self.answer = nn.Conv2d(WIDTHS[1], 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, 3, SIDE, SIDE) in [-1, 1] to (b, 3, CELLS, CELLS): PSNR in dB, correlation of
        detail, and the logarithm of that one's weight.
        """
        psnr, detail, weight = self.answer(self.features(images)).unbind(1)
        return torch.stack([TYPICAL + SCALE * psnr, detail.tanh(), weight.clamp(-8, 8)], dim=1)

    @torch.inference_mode()
    def estimate(self, image: Image.Image, found: Sequence[Detection]) -> Estimate:
        """Of the objects found in a square image; of all of it where none are.

        It is the mean of what is said of the image and of its mirror image, which is nearer.
        """
        stacked = shrink(rearrange(to_tensor(image), "c h w -> 1 c h w"), SIDE)
        cells = self(torch.cat([stacked, stacked.flip(-1)]).to(self.answer.weight))
        inside = covered(found, image.width).to(cells)
        guess = pool(cells, torch.cat([inside, inside.flip(-1)]))
        return Estimate(*(reduce(each, "two -> 1", "mean") for each in guess))

    def save_pretrained(self, folder: str | Path) -> str:
        """Write `config.json` and `model.safetensors` (float16); returns their hash."""
        return write_checkpoint(
            folder, to_dict(self.config), self.state_dict(), dtype=torch.float16
        )

    @classmethod
    def from_pretrained(cls, folder: Path = BUNDLED) -> tuple[Estimator, str]:
        """Load the one that ships with the package, or a folder's; and its hash.

        Raises:
            CheckpointError: files missing, unknown settings, or keys that do not fit.
        """
        config = from_dict(EstimatorConfig, read_config(folder), str(folder / "config.json"))
        estimator = build_on_meta(lambda: cls(config), str(folder / "config.json"))
        load_strict(estimator, read_tensors(folder), str(folder))
        return estimator.eval(), checkpoint_sha256(folder)


def covered(found: Sequence[Detection], side: int) -> Tensor:
    """The share of each cell that lies in a box, (1, CELLS, CELLS); without boxes all ones."""
    if not found:
        return torch.ones(1, CELLS, CELLS)
    inside = torch.zeros(1, SIDE, SIDE)
    for detection in found:
        left, top, right, bottom = (round(edge * SIDE / side) for edge in detection.box)
        inside[:, max(top, 0) : bottom, max(left, 0) : right] = 1
    return reduce(inside, "1 (h i) (w j) -> 1 h w", "mean", h=CELLS, w=CELLS)


def pool(cells: Tensor, inside: Tensor) -> Estimate:
    """What `Estimator.forward` says of images, over shares of their cells (b, CELLS, CELLS)."""
    psnr, detail, weight = cells.unbind(1)
    inside = inside + 1e-6  # a box narrower than a pixel
    errors = reduce(inside * 10 ** (-psnr / 10), "b h w -> b", "sum")
    mean = -10 * torch.log10(errors / reduce(inside, "b h w -> b", "sum"))
    weights = inside * weight.exp()
    total = reduce(weights, "b h w -> b", "sum")
    return Estimate(mean.clamp(WORST, BEST), reduce(weights * detail, "b h w -> b", "sum") / total)

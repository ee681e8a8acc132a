"""A small detector for the objects of scenes: what is where, and in which of the ten colors.

A convolutional network reads an image at 128 x 128 pixels (or what its configuration says) and
answers at every cell of 8 x 8 of them: is this the middle of an object, of which class, in which
color, how far are its edges? (Center points as in CenterNet, Zhou et al. 2019, with one heat map
for all classes.) It is trained on compositions whose truth is exact
(`dcar_eval.scenes.recognizer_train`) and knows nothing else.

Shapes: images (b, 3, H, W) in [-1, 1], square; answers (b, ., g, g) with g = side / 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

from dcar_eval.geneval import Detection, Options
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
from dcht.errors import UsageError
from dcht.hub import locate
from dcht.images import to_tensor
from dcht.ranges import Length, Range, check_ranges

CHECKPOINTS = Path(str(resources.files("dcar_eval"))) / "scenes" / "checkpoints"
BUNDLED = CHECKPOINTS / "recognizer"
"""The one that reads standard scenes."""
SIDE = 128
"""Pixels that an image is resized to before it is read, where the configuration says no other."""
STRIDE = 8
GRID = SIDE // STRIDE
WIDTHS = (48, 96, 160)
"""Channels at a quarter, an eighth and a sixteenth of the side."""
LEAST_SCORE = 0.05
"""Detections below it are not even listed."""


@dataclass(kw_only=True)
class RecognizerConfig:
    """A recognizer's class table, how to read it, and what it is known to be worth.

    The fields are the keys of its `config.json`, two of them in British spelling.
    """

    classes: Annotated[list[str], Length(1, 4096)]
    colours: Annotated[list[str], Length(1, 256)]
    side: Annotated[int, Range(32, 1024)] = SIDE
    """Pixels that an image is resized to before it is read, a multiple of 16."""
    neighbourhood: Annotated[int, Range(1, 31)] = 5
    """Cells a side, odd, in which only the warmest can be the middle of an object."""
    options: Options = field(default_factory=Options)
    """Thresholds that go with its scores."""
    training: dict[str, Any] = field(default_factory=dict)
    """How it was made: seed, steps, images."""
    ceiling: dict[str, Any] = field(default_factory=dict)
    """Its own score on scenes whose truth is exact: no model can be measured beyond it."""

    def __post_init__(self) -> None:
        """Refuse tables of nothing."""
        check_ranges(self)
        if self.side % 16 or self.neighbourhood % 2 == 0:
            raise UsageError(
                f"side {self.side} is not a multiple of 16, or neighborhood {self.neighbourhood} "
                "is not odd"
            )


class Answers(NamedTuple):
    """What the network says of every cell; logits but for `edges`."""

    heat: Tensor
    """(b, g, g): is it the middle of an object?"""
    classes: Tensor
    """(b, number of classes, g, g)."""
    colors: Tensor
    """(b, number of colors, g, g)."""
    edges: Tensor
    """(b, 4, g, g): distance of left, top, right and bottom edge, in sides of the image."""


class Trunk(nn.Module):
    """The convolutions: images (b, 3, side, side) in [-1, 1] to features (b, c, g, g)."""

    def __init__(self) -> None:
        super().__init__()
        quarter, eighth, sixteenth = WIDTHS
        self.stem = nn.Sequential(nn.PixelUnshuffle(4), convolution(48, quarter))
        self.middle = nn.Sequential(convolution(quarter, eighth, stride=2), Block(eighth))
        self.context = nn.Sequential(
            convolution(eighth, sixteenth, stride=2), Block(sixteenth), Block(sixteenth)
        )
        self.back = nn.Conv2d(sixteenth, eighth, 1)
        self.merge = convolution(eighth, eighth)

    def features(self, images: Tensor) -> Tensor:
        """What is read of every cell."""
        middle = self.middle(self.stem(images))  # b c g g
        context = self.back(self.context(middle))  # b c g/2 g/2
        return self.merge(middle + F.interpolate(context, scale_factor=2))


class Recognizer(Trunk):
    """The network with its class table."""

    def __init__(self, config: RecognizerConfig) -> None:
        super().__init__()
        self.config = config
        self.parts = (1, len(config.classes), len(config.colours), 4)
        self.answer = nn.Conv2d(WIDTHS[1], sum(self.parts), 1)
        # Few cells are the middle of anything: start from there, or the first steps only learn it.
        nn.init.constant_(self.answer.bias[0], -4.0)  # type: ignore[index]

    def forward(self, images: Tensor) -> Answers:
        """Look at images (b, 3, side, side) in [-1, 1]."""
        answer = self.answer(self.features(images))
        heat, classes, colors, edges = answer.split(self.parts, dim=1)
        return Answers(rearrange(heat, "b 1 h w -> b h w"), classes, colors, F.softplus(edges))

    @torch.inference_mode()
    def detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """The objects of square images of one size, in their own pixels, best first."""
        stacked = torch.stack([to_tensor(image) for image in images])
        answers = self(shrink(stacked, self.config.side).to(self.answer.weight))
        heat = answers.heat.sigmoid()
        around = self.config.neighbourhood
        warmest = F.max_pool2d(heat, around, 1, around // 2) == heat
        confidence, kinds = answers.classes.softmax(1).max(1)
        scores = torch.where(warmest, heat * confidence, 0.0)
        colors, boxes = answers.colors.argmax(1), self._boxes(answers.edges)
        found: list[list[Detection]] = []
        for b, image in enumerate(images):
            cells = (scores[b] > LEAST_SCORE).nonzero().tolist()
            detections = [
                Detection(
                    class_name=self.config.classes[int(kinds[b, row, column])],
                    score=float(scores[b, row, column]),
                    box=tuple((boxes[b, :, row, column] * image.width).tolist()),
                    color=self.config.colours[int(colors[b, row, column])],
                )
                for row, column in cells
            ]
            found.append(sorted(detections, key=lambda detection: -detection.score))
        return found

    @staticmethod
    def _boxes(edges: Tensor) -> Tensor:
        """(b, 4, g, g): left, top, right, bottom, in sides of the image."""
        grid = edges.shape[-1]
        centers = (torch.arange(grid, device=edges.device) + 0.5) / grid
        left, top, right, bottom = edges.unbind(1)
        x, y = centers[None, None, :], centers[None, :, None]
        return torch.stack([x - left, y - top, x + right, y + bottom], dim=1).clamp(0, 1)

    def save_pretrained(self, folder: str | Path) -> str:
        """Write `config.json` and `model.safetensors` (float16); returns their hash."""
        return write_checkpoint(
            folder, to_dict(self.config), self.state_dict(), dtype=torch.float16
        )

    @classmethod
    def from_pretrained(cls, name: str | Path | None = None) -> tuple[Recognizer, str]:
        """Load a folder, a Hub id, or (None, `bundled`) the one that ships; and its hash.

        Raises:
            CheckpointError: files missing, unknown settings, or keys that do not fit.
        """
        folder = locate(name, bundled=BUNDLED)
        config = from_dict(RecognizerConfig, read_config(folder), str(folder / "config.json"))
        recognizer = build_on_meta(lambda: cls(config), str(folder / "config.json"))
        load_strict(recognizer, read_tensors(folder), str(folder))
        return recognizer.eval(), checkpoint_sha256(folder)


def shrink(images: Tensor, side: int = SIDE) -> Tensor:
    """Images (b, 3, H, W) at the size that the network reads, antialiased."""
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def convolution(channels: int, out: int, *, stride: int = 1) -> nn.Sequential:
    """3 x 3, normalized, rectified."""
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )


class Block(nn.Module):
    """A residual block of two convolutions (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to the same."""
        return F.relu(x + self.norm(self.second(self.first(x))))

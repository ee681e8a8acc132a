"""What an image is worth beside the true one: the nearest of all that its caption allows.

A caption leaves the background open, and places and sizes to a generator that was not trained on
the layout of the scenes. So the truth that an image is held against has the background that is
nearest to the image's, and its objects where the image has them, if what is asked for is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcar_eval.geneval import Detection
from dcar_eval.metrics.likeness import RECOGNIZABLE, likenesses
from dcar_eval.metrics.pixels import ssim
from dcar_eval.scenes.backgrounds import paint_background
from dcar_eval.scenes.layout import Box, Layout, Placement, box_of, render_layout, sprite_of
from dcar_eval.scenes.sprites import Sprites, visible_box
from dcht.images import to_pil, to_tensor
from dcht.tokenizer import Tokenizer

HOME = 0.75
"""Least IoU of the box found and the layout's for an object to stand where the layout has it."""
WINDOW = 1 / 16
"""How far around a box that was found an object is looked for, in sides of the image."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""LPIPS: images (b, 3, H, W) in [-1, 1], twice, to (b,)."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """An image beside its truth, measured or, where there is no truth, estimated; PSNR in dB."""

    psnr: float | None
    """None: estimated, and so is SSIM."""
    psnr_objects: float
    """Within the boxes of the objects."""
    ssim: float | None
    lpips: float | None
    """None without weights."""
    detail: float
    """Of the objects; see `dcar_eval.metrics.likeness`."""

    @property
    def recognizable(self) -> bool:
        """Whether so much detail is there that a person would recognize the objects."""
        return self.detail >= RECOGNIZABLE


class Truth(NamedTuple):
    """The right image that an image is held against."""

    pixels: Image.Image
    objects: np.ndarray
    """(H, W) bool: the boxes of its objects."""
    background: str


def nearest_truth(
    seen: Image.Image,
    right: Layout,
    backgrounds: Sequence[str],
    sprites: Sprites,
    found: Sequence[Detection] | None = None,
) -> Truth:
    """The right image that is nearest to one that was generated.

    Args:
        seen: what was generated, of the size of `right`.
        right: one right image, for the objects and their places.
        backgrounds: what else may stand behind them.
        sprites: the artwork.
        found: the objects found in `seen`, if they are what is asked for; None: the objects of
            `right` stay where they are.
    """
    pixels = np.asarray(seen, dtype=np.float32)
    right = replace(right, background=_background(pixels, right, backgrounds, sprites))
    if found is not None and (matched := _matched(right, found, sprites)) is not None:
        things = [_fitted(thing, box, seen, right, sprites) for thing, box in matched]
        right = replace(right, objects=tuple(things))
        right = replace(right, background=_background(pixels, right, backgrounds, sprites))
    return truth_of(right, sprites)


def truth_of(right: Layout, sprites: Sprites) -> Truth:
    """A right image as what is held against it needs it."""
    return Truth(render_layout(right, sprites), _mask(right, sprites), right.background)


def hold_against(seen: Image.Image, truth: Truth, lpips: Distance | None) -> Fidelity:
    """Measure an image beside its truth."""
    ours, theirs = np.asarray(seen), np.asarray(truth.pixels)
    whole, objects = likenesses(ours, theirs, [np.ones_like(truth.objects), truth.objects])
    distance = None
    if lpips is not None:
        with torch.inference_mode():
            distance = float(lpips(to_tensor(seen)[None], to_tensor(truth.pixels)[None]))
    return Fidelity(
        psnr=whole.psnr,
        psnr_objects=objects.psnr,
        ssim=ssim(ours, theirs),
        lpips=distance,
        detail=objects.detail,
    )


@torch.inference_mode()
def through(tokenizer: Tokenizer, truth: Truth) -> Image.Image:
    """The truth as the tokenizer gives it back: no generator that decodes with it does better."""
    device = next(tokenizer.parameters()).device
    return to_pil(tokenizer.reconstruct(to_tensor(truth.pixels)[None].to(device))[0].cpu())


def mean_fidelity(measured: Sequence[Fidelity]) -> dict[str, float | None]:
    """`psnr`, `psnr_objects`, `ssim` and `lpips`, means over images; None where not measured."""
    means: dict[str, float | None] = {}
    for name in ("psnr", "psnr_objects", "ssim", "lpips"):
        values = [value for one in measured if (value := getattr(one, name)) is not None]
        means[name] = float(np.mean(values)) if values else None
    return means


def _mask(layout: Layout, sprites: Sprites) -> np.ndarray:
    mask = np.zeros((layout.size, layout.size), dtype=bool)
    for thing in layout.objects:
        left, top, right, bottom = box_of(thing, sprites)
        mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return mask


def _background(pixels: np.ndarray, layout: Layout, names: Sequence[str], sprites: Sprites) -> str:
    """The nearest one, away from the objects."""
    away = ~_mask(layout, sprites)
    if not away.any():
        return layout.background

    def error(name: str) -> float:
        background = np.asarray(paint_background(name, layout.size), dtype=np.float32)
        return float(((background - pixels)[away] ** 2).mean())

    return min(names, key=error)


def _matched(
    layout: Layout, found: Sequence[Detection], sprites: Sprites
) -> list[tuple[Placement, tuple[float, ...]]] | None:
    """Each object with the box where it was found; None where all stand where they are placed."""
    unused, pairs, at_home = list(found), [], True
    for thing in layout.objects:
        box = box_of(thing, sprites)
        alike = [
            detection
            for detection in unused
            if detection.class_name == thing.name
            and thing.color in (None, detection.classify_color() if thing.color else None)
        ]
        if not alike:
            return None
        nearest = min(alike, key=lambda detection: _distance(detection.box, box))
        unused.remove(nearest)
        pairs.append((thing, nearest.box))
        at_home = at_home and _overlap(nearest.box, box) >= HOME
    return None if at_home else pairs


def _distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Of the centers."""
    across, down = (first[k] + first[k + 2] - second[k] - second[k + 2] for k in (0, 1))
    return float(np.hypot(across, down)) / 2


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both)


def _fitted(
    thing: Placement,
    box: Sequence[float],
    seen: Image.Image,
    layout: Layout,
    sprites: Sprites,
) -> Placement:
    """The object moved and sized to where its sprite is most like what was generated there.

    The box is a first guess, a few pixels off: which is as much as blur costs.
    """
    shape = visible_box(sprite_of(thing, sprites))
    width, height = box[2] - box[0], box[3] - box[1]
    scale = ((width * height) / ((shape[2] - shape[0]) * (shape[3] - shape[1]))) ** 0.5
    side = max(round(thing.side * scale), 1)
    middle = [(low + high) / 2 * side / thing.side for low, high in (shape[::2], shape[1::2])]
    best = replace(
        thing,
        side=side,
        x=round((box[0] + box[2]) / 2 - middle[0]),
        y=round((box[1] + box[3]) / 2 - middle[1]),
    )
    margin = round(WINDOW * layout.size)
    window: Box = (
        max(int(box[0]) - margin, 0),
        max(int(box[1]) - margin, 0),
        min(int(box[2]) + margin, layout.size),
        min(int(box[3]) + margin, layout.size),
    )
    there = np.asarray(seen.crop(window), dtype=np.float32)
    behind = paint_background(layout.background, layout.size).crop(window)

    def error(guess: Placement) -> float:
        sprite, image = sprite_of(guess, sprites), behind.copy()
        image.paste(sprite, (guess.x - window[0], guess.y - window[1]), sprite)
        return float(((np.asarray(image, dtype=np.float32) - there) ** 2).mean())

    least = error(best)
    for step in (margin // 2, margin // 4, 1):
        improved = step > 0
        while improved:
            improved = False
            for guess in _around(best, step):
                if (value := error(guess)) < least:
                    best, least, improved = guess, value, True
    return best


def _around(thing: Placement, step: int) -> list[Placement]:
    """The object moved a step in each direction, and grown and shrunk to each corner and both."""
    shifts = [(-step, 0, 0), (step, 0, 0), (0, -step, 0), (0, step, 0)]
    for grown in (-step, step):
        shifts += [(0, 0, grown), (-grown, -grown, grown), (-grown, -grown, 2 * grown)]
    return [
        replace(thing, x=thing.x + right, y=thing.y + down, side=thing.side + grown)
        for right, down, grown in shifts
        if thing.side + grown > 0
    ]

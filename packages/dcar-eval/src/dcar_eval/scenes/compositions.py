"""Images that a recognizer learns from: any objects anywhere, degraded as generated ones are.

Freer than the scenes that it will judge: sizes and places off the grid, classes and colors at
random, backgrounds of any two shades, objects that overlap a little. Composition k is a function of
(seed, k) and the art alone.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from dcar_eval.scenes.backgrounds import PATTERNS, mix, names_of, paint_background
from dcar_eval.scenes.sprites import Sprites, visible_box
from dcar_eval.scenes.world import COLORS, NEVER_COLORED

MASTER = 96
"""Pixels of the sprites that are kept in memory; each is resized from there."""
COUNTS = (1, 2, 3, 4, 5)
COUNT_WEIGHTS = (0.2, 0.25, 0.2, 0.25, 0.1)
SAME_SHARE = 0.25
"""Share of the images that repeat one object, as counting does."""
COLORED_SHARE = 0.65
SIDES = {1: (0.3, 0.9), 2: (0.28, 0.5), 3: (0.28, 0.46), 4: (0.28, 0.46), 5: (0.25, 0.36)}
"""Least and greatest side of an object, as a share of the image, by how many there are."""
OVERLAP = 0.1
"""Greatest share of a box that another may cover."""
TRIES = 60


class Labeled(NamedTuple):
    """One object of a composition."""

    kind: int
    """Number of its class."""
    color: int
    """Number of its color, -1 for the colors of its sprite."""
    box: tuple[float, float, float, float]
    """What is visible of it: left, top, right, bottom, as shares of the side."""


class Composition(NamedTuple):
    """An image and its truth."""

    image: Image.Image
    objects: list[Labeled]


def compose(
    index: int, *, seed: int, classes: list[str], sprites: Sprites, size: int
) -> Composition:
    """Composition `index`, size x size, before anything degrades it."""
    rng = np.random.default_rng([seed, index])
    image = _background(rng, size)
    count = int(rng.choice(COUNTS, p=COUNT_WEIGHTS))
    low, high = SIDES[count]
    same = rng.random() < SAME_SHARE
    things = [_thing(rng, classes) for _ in range(count)]
    objects: list[Labeled] = []
    for kind, color in things[:1] * count if same else things:
        side = round(float(rng.uniform(low, high)) * size)
        sprite = _sprite(sprites, classes[kind], color, side)
        inside = visible_box(sprite)
        for _ in range(TRIES):
            x, y = (int(v) for v in rng.integers(-side // 12, size - side + side // 12 + 1, 2))
            left, top, right, bottom = (
                float(np.clip((start + edge) / size, 0, 1))
                for start, edge in zip((x, y, x, y), inside, strict=True)
            )
            box = (left, top, right, bottom)
            if all(_covered(box, other.box) <= OVERLAP for other in objects):
                image.paste(sprite, (x, y), sprite)
                objects.append(Labeled(kind, color, box))
                break
    return Composition(image, objects)


def degrade(image: Image.Image, index: int, *, seed: int) -> Image.Image:
    """Blur, shrink, compress, shift colors and add noise, each now and then and a little."""
    rng = np.random.default_rng([seed, index, 1])
    size = image.width
    if rng.random() < 0.4:
        radius = float(rng.uniform(0.2, 0.013 * size))
        image = image.filter(ImageFilter.GaussianBlur(radius))
    if rng.random() < 0.2:
        side = int(size * rng.uniform(0.4, 0.9))
        small = image.resize((side, side), Image.Resampling.BILINEAR)
        image = small.resize((size, size), Image.Resampling.BICUBIC)
    if rng.random() < 0.15:
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=int(rng.integers(30, 90)))
        image = Image.open(buffer).convert("RGB")
    pixels = np.asarray(image, dtype=np.float32)
    pixels = (pixels - 128) * rng.uniform(0.9, 1.1) + 128 + rng.normal(0, 4, 3)
    if rng.random() < 0.3:
        pixels = pixels + rng.normal(0, rng.uniform(1, 8), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def _background(rng: np.random.Generator, size: int) -> Image.Image:
    """One of the scenes' own, or a pattern between any two shades."""
    if rng.random() < 0.5:
        return paint_background(str(rng.choice(names_of("photographic"))), size)
    first = rng.uniform(20, 250, 3)
    second = (first + rng.normal(0, 30, 3)).clip(0, 255)
    return Image.fromarray(mix(str(rng.choice(list(PATTERNS))), first, second, size))


def _thing(rng: np.random.Generator, classes: list[str]) -> tuple[int, int]:
    kind = int(rng.integers(len(classes)))
    colored = rng.random() < COLORED_SHARE and classes[kind] not in NEVER_COLORED
    color = int(rng.integers(len(COLORS)))
    return kind, color if colored else -1


def _sprite(sprites: Sprites, name: str, color: int, side: int) -> Image.Image:
    master = sprites.get(name, None if color < 0 else list(COLORS)[color], MASTER)
    return master.convert("RGBa").resize((side, side), Image.Resampling.BICUBIC).convert("RGBA")


def _covered(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """The share of the smaller box that lies in the other."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(width, 0) * max(height, 0) / max(min(areas), 1e-9)

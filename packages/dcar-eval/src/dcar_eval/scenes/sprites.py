"""The artwork: found by name in unpacked npm packages, recoloured, cached."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from dcar_eval.scenes.world import COLOURS, SPRITE_LABELS
from dcht.errors import UsageError
from dcht.images import ImageError, open_image

HOW_TO_GET = (
    "get them with: npm install @lobehub/fluent-emoji-3d@1.1.0 emojibase-data@17.0.0, "
    "and pass node_modules"
)
CACHED = 4096
FLAT = 8.0
"""Least difference of luminance between the colour and an end of its ramp: noise stays noise."""


class Sprites:
    """Sprites by object name, from a folder that holds the art and the labels of emojibase."""

    def __init__(self, folder: str | Path, names: tuple[str, ...]) -> None:
        """Find the file of every name.

        Raises:
            UsageError: no labels, or a sprite that is missing, with the command that gets them.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UsageError(f"{folder} is not a folder of sprites; {HOW_TO_GET}")
        codes = {row["label"]: row["hexcode"] for row in self._labels()}
        files = {path.stem.lower(): path for path in self.folder.rglob("*.webp")}
        self.files: dict[str, Path] = {}
        for name in names:
            code = codes.get(SPRITE_LABELS[name], "").lower()
            # Files are named by code point; the variation selector is written or left out.
            stems = (code, code.replace("-fe0f", ""), f"{code}-fe0f")
            found = [files[stem] for stem in stems if stem in files]
            if not found:
                raise UsageError(f"{folder} has no sprite for {name!r}; {HOW_TO_GET}")
            self.files[name] = found[0]

    def _labels(self) -> list[dict[str, str]]:
        for path in sorted(self.folder.rglob("en/data.json")):
            return json.loads(path.read_text(encoding="utf-8"))
        raise UsageError(f"{self.folder} has no en/data.json of emojibase-data; {HOW_TO_GET}")

    @lru_cache(maxsize=CACHED)  # noqa: B019  (one instance a process, alive as long as it)
    def get(self, name: str, colour: str | None, side: int) -> Image.Image:
        """The sprite as RGBA, side x side pixels, in its own colours or in one of the ten."""
        image = self._original(name)
        if colour is not None:
            image = recolour(image, COLOURS[colour])
        # Resized with premultiplied alpha, or the hidden colour of clear pixels bleeds in.
        premultiplied = image.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS)
        return premultiplied.convert("RGBA")

    @lru_cache(maxsize=len(SPRITE_LABELS))  # noqa: B019
    def _original(self, name: str) -> Image.Image:
        path = self.files[name]
        try:
            open_image(path)  # the checks of untrusted files; it flattens alpha, so not the result
        except ImageError as error:
            raise UsageError(f"{path}: {error}; {HOW_TO_GET}") from None
        with Image.open(path) as opened:
            image = opened.convert("RGBA")
        side = max(image.size)
        square = Image.new("RGBA", (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return square


def recolour(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Map luminance to a ramp dark - colour - light, keeping alpha; light and shade stay.

    The ramp reaches from the sprite's 2nd to its 98th percentile of luminance, and has the colour
    itself at the median: else a sprite of one dark shade with a small highlight (a book) would be
    dark all over, and its orange would be brown. Where the median is one of the ends, the ramp
    goes on beyond it.
    """
    pixels = np.asarray(image).astype(np.float32)
    alpha = pixels[..., 3]
    luminance = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    low, median, high = np.percentile(luminance[alpha > 128], [2, 50, 98])
    least = max((high - low) / 4, FLAT)
    knots = (min(low, median - least), median, max(high, median + least))
    middle = np.array(colour, dtype=np.float32)
    dark, light = middle * 0.35, middle + (255 - middle) * 0.6
    if max(colour) < 60:  # black: a full highlight would read as grey
        light = middle + (255 - middle) * 0.3
    elif min(colour) > 230:  # white: a full shadow would read as grey
        dark = middle * 0.6
    ramp = [np.interp(luminance, knots, shades) for shades in zip(dark, middle, light, strict=True)]
    return Image.fromarray(np.dstack([*ramp, alpha]).round().astype(np.uint8), "RGBA")


def visible_box(sprite: Image.Image) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of what is more than half opaque."""
    opaque = sprite.getchannel("A").point([0] * 128 + [255] * 128)
    return opaque.getbbox() or (0, 0, 0, 0)

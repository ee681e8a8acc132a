"""The artwork: found by name in unpacked npm packages, recolored, cached."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from dcar_eval.scenes.things import labels
from dcar_eval.scenes.world import COLORS, PLAIN
from dcht.errors import UsageError
from dcht.files import file_sha256, read_json
from dcht.images import MAX_PIXELS, ImageError, open_image

HOW_TO_GET = (
    "get them with: npm install @lobehub/fluent-emoji-3d@1.1.0 emojibase-data@17.0.0, "
    "and pass node_modules"
)
VECTOR_SETS = {"noto": "@iconify-json/noto@1.2.9", "flat": "@iconify-json/fluent-emoji-flat@1.2.6"}
"""The other styles, rendered from vectors, and the npm package of each."""
VECTOR_SIDE = 256
"""Pixels a side at which a vector is rendered once."""
CACHED = 4096
ORIGINALS = 2048
"""Sprites that are kept as they were read, and once more for resizing: a GB at most."""
RECENT = 64
FLAT = 8.0
"""Least difference of luminance between the color and an end of its ramp: noise stays noise."""

Shade = tuple[int, int, int]


class Sprites:
    """Sprites by object name, from a folder that holds the art and the labels of emojibase."""

    def __init__(
        self, folder: str | Path, names: tuple[str, ...], styles: tuple[str, ...] = (PLAIN,)
    ) -> None:
        """Find the file of every name, and the vectors of every other style.

        Raises:
            UsageError: no labels, or art that is missing, with the command that gets it.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UsageError(f"{folder} is not a folder of sprites; {HOW_TO_GET}")
        try:
            codes = {str(row["label"]): str(row["hexcode"]) for row in self._labels()}
        except (LookupError, TypeError):
            raise UsageError(f"the labels in {folder} are not emojibase's; {HOW_TO_GET}") from None
        files = {path.stem.lower(): path for path in self.folder.rglob("*.webp")}
        self.files: dict[str, Path] = {}
        for name in names:
            code = codes.get(labels()[name], "").lower()
            # Files are named by code point; the variation selector is written or left out.
            stems = (code, code.replace("-fe0f", ""), f"{code}-fe0f")
            found = [files[stem] for stem in stems if stem in files]
            if not found:
                raise UsageError(f"{folder} has no sprite for {name!r}; {HOW_TO_GET}")
            self.files[name] = found[0]
        self.vectors = {style: self._vectors(style, names) for style in styles if style != PLAIN}

    def _vectors(self, style: str, names: tuple[str, ...]) -> dict[str, str]:
        """The SVG of each name that has one in this style."""
        package = VECTOR_SETS[style]
        folder = self.folder / package.rsplit("@", 1)[0]
        try:
            icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(
                f"{self.folder} has no art in style {style!r}; get it with: npm install {package}"
            ) from None
        side, bodies = icons["height"], icons["icons"]
        slugs = {name: re.sub("[^a-z0-9]+", "-", _unquoted(labels()[name])) for name in names}
        return {
            name: f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">'
            f"{bodies[slug]['body']}</svg>"
            for name, slug in slugs.items()
            if slug in bodies
        }

    def has(self, name: str, style: str) -> bool:
        """Whether a name has a sprite in a style."""
        return name in (self.files if style == PLAIN else self.vectors[style])

    def _labels(self) -> list[dict[str, str]]:
        for path in sorted(self.folder.rglob("en/data.json")):
            return read_json(path, kind=list)
        raise UsageError(f"{self.folder} has no en/data.json of emojibase-data; {HOW_TO_GET}")

    def sha256(self) -> str:
        """Hash of what is rendered, by name and style: what images depend on."""
        contents = {name: file_sha256(path) for name, path in sorted(self.files.items())}
        return hashlib.sha256(json.dumps([contents, self.vectors]).encode()).hexdigest()

    @lru_cache(maxsize=CACHED)  # noqa: B019  (one instance a process, alive as long as it)
    def get(self, name: str, color: str | None, side: int) -> Image.Image:
        """The sprite as RGBA, side x side pixels, in its own colors or in one of the ten."""
        image = self._original(name)
        if color is not None:
            image = recolor(image, COLORS[color])
        # Resized with premultiplied alpha, or the hidden color of clear pixels bleeds in.
        premultiplied = image.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS)
        return premultiplied.convert("RGBA")

    @lru_cache(maxsize=RECENT)  # noqa: B019
    def in_shade(self, name: str, style: str, shade: Shade | None, side: int) -> Image.Image:
        """The sprite as RGBA in any shade, painted after it is resized: several times faster.

        Only the last few are kept: of free sizes and shades there are too many.
        """
        image = self._premultiplied(name, style)
        image = image.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
        image = image.convert("RGBA")
        if shade is None:
            return image
        ramp = _ramp(np.arange(256, dtype=np.float32), self._levels(name, style), shade)
        gray = image.convert("L")
        painted = [gray.point(channel.round().astype(np.uint8).tolist()) for channel in ramp]
        return Image.merge("RGBA", (*painted, image.getchannel("A")))

    @lru_cache(maxsize=ORIGINALS)  # noqa: B019
    def extent(self, name: str, style: str) -> float:
        """The longer side of what is more than half opaque, as a share of the sprite's side."""
        original = self._original(name, style)
        left, top, right, bottom = visible_box(original)
        return max(right - left, bottom - top, 1) / original.width

    @lru_cache(maxsize=ORIGINALS)  # noqa: B019
    def _premultiplied(self, name: str, style: str) -> Image.Image:
        return self._original(name, style).convert("RGBa")

    @lru_cache(maxsize=8 * ORIGINALS)  # noqa: B019
    def outline(self, name: str, style: str, side: int) -> np.ndarray:
        """Where the sprite is more than half opaque, bool (side, side); never nowhere."""
        alpha = self._original(name, style).getchannel("A")
        cells = np.asarray(alpha.resize((side, side), Image.Resampling.BOX)) > 127
        return cells if cells.any() else np.ones_like(cells)

    @lru_cache(maxsize=ORIGINALS)  # noqa: B019
    def _levels(self, name: str, style: str) -> tuple[float, float, float]:
        return levels_of(np.asarray(self._original(name, style)).astype(np.float32))

    @lru_cache(maxsize=ORIGINALS)  # noqa: B019
    def _original(self, name: str, style: str = PLAIN) -> Image.Image:
        if style != PLAIN:
            return _rendered(self.vectors[style][name])
        path = self.files[name]
        try:
            open_image(path)  # the checks of untrusted files; it flattens alpha, so not the result
        except ImageError as error:
            raise UsageError(f"{path}: {error}; {HOW_TO_GET}") from None
        with Image.open(path) as opened:
            image = opened.convert("RGBA")
        side = max(image.size)
        if side * side > MAX_PIXELS:
            raise UsageError(f"{path} is {image.width} x {image.height}: too large; {HOW_TO_GET}")
        square = Image.new("RGBA", (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return square


def recolor(image: Image.Image, color: Shade) -> Image.Image:
    """Map luminance to a ramp dark - color - light, keeping alpha; light and shade stay.

    The ramp reaches from the sprite's 2nd to its 98th percentile of luminance, and has the color
    itself at the median: else a sprite of one dark shade with a small highlight (a book) would be
    dark all over, and its orange would be brown. Where the median is one of the ends, the ramp
    goes on beyond it.
    """
    pixels = np.asarray(image).astype(np.float32)
    ramp = _ramp(_luminance(pixels), levels_of(pixels), color)
    return Image.fromarray(np.dstack([*ramp, pixels[..., 3]]).round().astype(np.uint8), "RGBA")


def levels_of(pixels: np.ndarray) -> tuple[float, float, float]:
    """Of what is more than half opaque in (h, w, 4): the 2nd, 50th and 98th percentile."""
    low, median, high = np.percentile(_luminance(pixels)[pixels[..., 3] > 128], [2, 50, 98])
    return low, median, high


def _luminance(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _ramp(
    luminance: np.ndarray, levels: tuple[float, float, float], color: Shade
) -> list[np.ndarray]:
    """Red, green and blue for each luminance."""
    low, median, high = levels
    least = max((high - low) / 4, FLAT)
    knots = (min(low, median - least), median, max(high, median + least))
    middle = np.array(color, dtype=np.float32)
    dark, light = middle * 0.35, middle + (255 - middle) * 0.6
    if max(color) < 60:  # black: a full highlight would read as gray
        light = middle + (255 - middle) * 0.3
    elif min(color) > 230:  # white: a full shadow would read as gray
        dark = middle * 0.6
    return [np.interp(luminance, knots, shades) for shades in zip(dark, middle, light, strict=True)]


def _rendered(svg: str) -> Image.Image:
    """A vector as pixels."""
    try:
        import resvg_py
    except ModuleNotFoundError:
        raise UsageError("other styles need resvg-py: pip install 'dcar-eval[styles]'") from None
    with Image.open(BytesIO(resvg_py.svg_to_bytes(svg_string=svg, width=VECTOR_SIDE))) as opened:
        return opened.convert("RGBA")


def _unquoted(label: str) -> str:
    return label.lower().replace("\u2019", "")


def visible_box(sprite: Image.Image) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of what is more than half opaque."""
    opaque = sprite.getchannel("A").point([0] * 128 + [255] * 128)
    return opaque.getbbox() or (0, 0, 0, 0)

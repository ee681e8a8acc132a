"""What stands behind the objects: two soft shades, mixed by a pattern.

A background is its name, `SHADE` or `SHADE PATTERN`: the same image at every size, everywhere.
SHADE is one of `SHADES`, or the two in hexadecimal: `#f0e8d0-#c0b090 gravel`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from dcar_eval.scenes.world import COLORS, Scene

Shade = tuple[int, int, int]

SHADES: dict[str, tuple[Shade, Shade]] = {
    "mist": ((222, 228, 236), (206, 214, 226)),
    "sky": ((176, 210, 240), (208, 228, 246)),
    "mint": ((196, 230, 208), (176, 216, 192)),
    "sand": ((238, 222, 188), (226, 206, 168)),
    "rose": ((246, 214, 216), (234, 196, 202)),
    "lilac": ((216, 206, 240), (200, 188, 230)),
    "slate": ((118, 130, 150), (96, 108, 128)),
    "teal": ((92, 150, 154), (72, 128, 134)),
}
"""Two shades each: where the pattern is 0, and where a plain gradient is 1."""
DEEPER = 2.2
"""How much further a pattern goes from the first shade to the second than a plain gradient does."""
DRAWS = 32
"""Pairs of shades that `sample_textured` chooses from."""
MILD = 0.5
"""How far the first of them goes from a gray to any color: objects are what should strike."""
NEAR = 30.0
"""Standard deviation of the difference of its two shades, in each channel."""
CONTRAST = 70
"""Least distance, in the channel where it is largest, of a background from an object's color."""


def _across(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every pixel's center, from 0 to 1, (size, 1) and (1, size)."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    return line[:, None], line[None, :]


def _gradient(size: int) -> np.ndarray:
    return np.linspace(0, 1, size, dtype=np.float32)[:, None].repeat(size, axis=1)


def _diagonal(size: int) -> np.ndarray:
    row, column = _across(size)
    return (row + column) / 2


def _horizon(size: int) -> np.ndarray:
    row, column = _across(size)
    return np.clip((row - 0.62) * 32 + 0.5, 0, 1) + 0 * column


def _spotlight(size: int) -> np.ndarray:
    row, column = _across(size)
    return np.clip(np.hypot(row - 0.5, column - 0.5) / 0.7, 0, 1)


def _stripes(size: int) -> np.ndarray:
    row, column = _across(size)
    return 0.5 - 0.5 * np.cos(2 * np.pi * 4 * column) + 0 * row


def _texture(name: str) -> Callable[[int], np.ndarray]:
    """A photograph of scikit-image's wheel (grass, gravel, brick: CC0), as levels from 0 to 1."""

    def level(size: int) -> np.ndarray:
        from skimage import data

        photograph = Image.fromarray(getattr(data, name)())
        gray = np.asarray(photograph.resize((size, size), Image.Resampling.BOX), dtype=np.float32)
        low, high = np.percentile(gray, [2, 98])
        return np.clip((gray - low) / (high - low), 0, 1)

    return level


PATTERNS: dict[str, Callable[[int], np.ndarray]] = {
    "gradient": _gradient,
    "diagonal": _diagonal,
    "horizon": _horizon,
    "spotlight": _spotlight,
    "stripes": _stripes,
    "grass": _texture("grass"),
    "gravel": _texture("gravel"),
    "brick": _texture("brick"),
}
KINDS = {
    "plain": ("gradient",),
    "varied": ("gradient", "diagonal", "horizon", "spotlight", "stripes"),
    "photographic": tuple(PATTERNS),
}
"""What `--backgrounds` chooses from; the more there is, the more tokens a generator must learn."""


def names_of(kind: str) -> list[str]:
    """Every background of a kind; a plain gradient is called by its shade alone."""
    return [
        shade if pattern == "gradient" else f"{shade} {pattern}"
        for shade in SHADES
        for pattern in KINDS[kind]
    ]


def ends(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The two shades that a background mixes, (3,) each, 0 to 255."""
    shade, _, pattern = name.partition(" ")
    if shade.startswith("#"):
        low, high = (bytes.fromhex(code.removeprefix("#")) for code in shade.split("-"))
        return np.array(list(low), np.float32), np.array(list(high), np.float32)
    first, second = (np.array(color, dtype=np.float32) for color in SHADES[shade])
    return first, (first + DEEPER * (second - first)).clip(0, 255) if pattern else second


def sample_background(scene: Scene, rng: np.random.Generator, kind: str = "plain") -> str:
    """A background that stands apart from every color that is asked for."""
    return choose_background([COLORS[one.color] for one in scene.objects if one.color], rng, kind)


def choose_background(
    shades: Sequence[Shade], rng: np.random.Generator, kind: str = "plain"
) -> str:
    """A background of a kind that stands apart from all of `shades`.

    Where they leave none at `CONTRAST`, it is the one that comes closest.
    """
    wanted = [np.array(shade) for shade in shades]

    def contrast(name: str) -> float:
        distances = [float(abs(end - color).max()) for end in ends(name) for color in wanted]
        return min(distances, default=CONTRAST)

    contrasts = {name: contrast(name) for name in names_of(kind)}
    enough = min(CONTRAST, max(contrasts.values()))
    return str(rng.choice([name for name, value in contrasts.items() if value >= enough]))


def sample_textured(shades: Sequence[Shade], rng: np.random.Generator) -> str:
    """Any pattern in any two shades that lie near each other, apart from what is asked for.

    Where none of `DRAWS` is at `CONTRAST` from all of `shades`, it is the one that comes closest.
    """
    pattern = str(rng.choice(list(PATTERNS)))
    gray, color = rng.integers(40, 246, (DRAWS, 1)), rng.integers(20, 251, (DRAWS, 3))
    first = np.round(gray + MILD * (color - gray)).astype(int).clip(0, 255)
    second = (first + rng.normal(0, NEAR, (DRAWS, 3)).round().astype(int)).clip(0, 255)
    both = np.stack([first, second], axis=1)  # image, end, channel
    asked = np.array(shades).reshape(-1, 1, 1, 3)
    distances = abs(both - asked).max(-1).min((0, 2)) if shades else np.full(DRAWS, CONTRAST)
    low, high = both[int(np.argmax(np.minimum(distances, CONTRAST)))].tolist()
    return f"#{bytes(low).hex()}-#{bytes(high).hex()} {pattern}"


def paint_background(name: str, size: int) -> Image.Image:
    """The background as an image, size x size."""
    return Image.fromarray(mix(name.partition(" ")[2] or "gradient", *ends(name), size))


def mix(pattern: str, first: np.ndarray, second: np.ndarray, size: int) -> np.ndarray:
    """Two shades (3,) mixed by a pattern: (size, size, 3) uint8."""
    return (first + (second - first) * _level(pattern, size)).round().astype(np.uint8)


@lru_cache(maxsize=64)
def _level(pattern: str, size: int) -> np.ndarray:
    return PATTERNS[pattern](size).astype(np.float32)[..., None]

"""Which code is where, as an image: the same colors in a notebook, the app and a command."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from einops import repeat
from PIL import Image
from torch import Tensor

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def code_color(code: int) -> tuple[int, int, int]:
    """The color (RGB, 0 to 255) of a code in every map: neighbors in number are far in hue."""
    hue, lightness = code * GOLDEN_RATIO % 1, 0.42 + 0.3 * (code * GOLDEN_RATIO * 7 % 1)
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.55)
    return round(red * 255), round(green * 255), round(blue * 255)


def code_map(indices: Tensor, *, patch: int = 32) -> Image.Image:
    """Which code is where: indices (h, w) as squares of `patch` pixels, a color a code."""
    colors = np.array([code_color(code) for code in indices.flatten().tolist()], np.uint8)
    pixels = repeat(colors, "(h w) c -> (h p) (w q) c", h=indices.shape[0], p=patch, q=patch)
    return Image.fromarray(pixels)

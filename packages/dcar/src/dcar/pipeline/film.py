"""The unmasking of a batch as frames: for a notebook, the app, and `--film`."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from einops import repeat
from PIL import Image
from torch import Tensor

from dcar.pipeline import TextToImage
from dcar.pipeline.results import StepPreview
from dcar.pipeline.settings import Settings
from dcht.display.html import embedded
from dcht.images import grid

FRAME_MS, LAST_FRAME_MS = 250, 2000
VEIL = (18, 22, 40, 150)
"""RGBA over a token that is still hidden."""
LINE = (255, 255, 255, 70)
"""RGBA of the token grid, over hidden and known tokens alike..."""
NEW = (255, 196, 0, 255)
"""...and of the frame of a token that this step revealed."""


@dataclass(frozen=True)
class Film:
    """The previews of one batch (`TextToImage.stream`); a notebook plays it."""

    previews: Sequence[StepPreview]
    hidden: int
    """The index of a token that is still hidden: the codebook's size."""
    tokens: bool = False
    """Whether the token grid lies over the frames, see `token_overlay`."""

    def frames(self) -> list[Image.Image]:
        """A frame a step and the refined one, each with all images side by side."""
        columns = math.ceil(math.sqrt(len(self.previews[0].images)))
        return [grid(images, columns=columns) for images in self._images()]

    def sheet(self) -> Image.Image:
        """A row an image, a column a step, the last one refined."""
        rows = zip(*self._images(), strict=True)
        return grid([image for row in rows for image in row], columns=len(self.previews))

    def gif(self, *, comment: bytes = b"") -> bytes:
        """The frames as an animated GIF, which stays on the last one for two seconds."""
        frames = self.frames()
        times = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
        film = io.BytesIO()
        frames[0].save(
            film, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0,
            comment=comment,
        )  # fmt: skip
        return film.getvalue()

    def _images(self) -> list[list[Image.Image]]:
        if not self.tokens:
            return [preview.images for preview in self.previews]
        before = [None, *self.previews[:-1]]
        return [
            overlaid(preview, last, hidden=self.hidden)
            for preview, last in zip(self.previews, before, strict=True)
        ]

    def _repr_html_(self) -> str:
        # Not `image/gif`: nbconvert, which makes the site's notebooks, would show the text instead.
        return embedded(self.gif(), "gif")


def unmasking_film(
    pipe: TextToImage,
    prompts: str | Sequence[str],
    *,
    tokens: bool = True,
    height: int | None = None,
    width: int | None = None,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> Film:
    """Generate an image of each prompt, in one batch, as a film; arguments as `TextToImage.stream`.

    Raises:
        UsageError: what `TextToImage.stream` raises.
    """
    previews = pipe.stream(prompts, height=height, width=width, seed=seed, **settings)
    return Film(list(previews), pipe.model.generator.mask_id, tokens)


def overlaid(preview: StepPreview, before: StepPreview | None, *, hidden: int) -> list[Image.Image]:
    """The images of a step under the token grid; the refined ones as they are.

    Args:
        preview: the step.
        before: the one before it; None: everything that is known is new.
        hidden: the index of a hidden token.
    """
    if preview.refined:
        return preview.images
    found = []
    for number, (image, indices) in enumerate(zip(preview.images, preview.indices, strict=True)):
        known = None if before is None else before.indices[number]
        patch = image.height // indices.shape[0]
        overlay = token_overlay(indices, known, hidden=hidden, patch=patch)
        found.append(Image.alpha_composite(image.convert("RGBA"), overlay).convert("RGB"))
    return found


def token_overlay(
    indices: Tensor, before: Tensor | None, *, hidden: int, patch: int = 32
) -> Image.Image:
    """What lies over an image in the making: RGBA, of `patch` pixels a token.

    Hidden tokens are veiled; those that are known now and were hidden `before` are framed.

    Args:
        indices: (h, w), after a step.
        before: (h, w), before it; None: all were hidden.
        hidden: the index of a hidden token.
        patch: pixels of a token's side.
    """
    veiled = (indices == hidden).numpy()
    new = ~veiled if before is None else ~veiled & (before == hidden).numpy()
    pixels = np.zeros((*veiled.shape, 4), np.uint8)
    pixels[veiled] = VEIL
    pixels = repeat(pixels, "h w c -> (h p) (w q) c", p=patch, q=patch)
    pixels[::patch], pixels[:, ::patch] = LINE, LINE
    wide = max(1, patch // 16)
    frame = np.ones((patch, patch), bool)
    frame[wide:-wide, wide:-wide] = False
    pixels[repeat(new, "h w -> (h p) (w q)", p=patch, q=patch) & np.tile(frame, new.shape)] = NEW
    return Image.fromarray(pixels)

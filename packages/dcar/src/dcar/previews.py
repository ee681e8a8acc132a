"""What a run shows of itself: pictures of fixed prompts, and training images drawn again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image

from dcar.data import Data
from dcar.pipeline import TextToImage
from dcht.images import grid, to_pil


def draw_prompts(pipe: TextToImage, prompts: Sequence[str], *, seed: int) -> Image.Image:
    """A contact sheet of prompts, at least one, always with the same noise."""
    images = pipe(prompts, seed=seed).images
    return grid(images, columns=math.ceil(math.sqrt(len(images))))


@torch.inference_mode()
def draw_reconstructions(pipe: TextToImage, data: Data, *, count: int, seed: int) -> Image.Image:
    """The first `count` training images in a row, and below each what its caption draws."""
    part = data.parts[0]
    rows = part.rows[:count]
    images = data.read(rows)
    latents = pipe.tokenizer.lookup(images.indices.to(pipe.device))
    pixels = pipe.tokenizer.decode(latents + images.residual.to(pipe.device))
    factor = pipe.tokenizer.config.downsampling
    drawn = pipe(
        [data.captions[row][0] for row in rows],
        height=part.grid[0] * factor,
        width=part.grid[1] * factor,
        seed=seed,
    )
    return grid([*map(to_pil, pixels), *drawn.images], columns=len(rows))

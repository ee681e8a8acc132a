"""What a pipeline gives back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from dcar.config import SamplingConfig
from dcar.pipeline.safety import Verdict
from dcht.display.html import figure
from dcht.images import grid


class StepPreview(NamedTuple):
    """The images after one unmasking step, or (`refined`) the final ones."""

    step: int
    """From 1; the refined images come after the last step, with its number."""
    num_steps: int
    images: list[Image.Image]
    """Decoded from the codes that are there, by the tokenizer's light decoder if it has one; hidden
    positions have the zero latent. The refined ones are the large decoder's."""
    indices: Tensor
    """(b, h, w), the codebook's size where still hidden."""
    refined: bool


@dataclass(kw_only=True)
class GenerationResult:
    """Images in the order of the prompts, `num_images` for each."""

    images: list[Image.Image]
    indices: Tensor
    """(number of images, h, w)."""
    prompts: list[str]
    """What each image was generated from: `A red heart` where the prompt was rejected."""
    verdicts: list[Verdict | None]
    """What the safety checker said of each prompt; None without a checker."""
    left_out: list[str]
    """The end of each prompt that the checkpoint's text encoder does not read, being too long for
    it; empty where it read everything."""
    masks: list[Image.Image] | None
    """Of edits, one an image: white where the mask, snapped to whole tokens, lets pixels change."""
    seed: int
    """The noise of image k depends on (seed, k) alone."""
    settings: SamplingConfig
    batch_size: int

    def _repr_html_(self) -> str:
        """In a notebook: the images, what they were asked for, and how they were drawn."""
        columns = math.ceil(math.sqrt(len(self.images)))
        rows: dict[str, object] = {"prompts": "; ".join(dict.fromkeys(self.prompts))}
        if left_out := [text for text in self.left_out if text]:
            rows["not read"] = "; ".join(dict.fromkeys(left_out))
        count, height, width = self.indices.shape
        rows |= {
            "images": f"{count} of {self.images[0].width} x {self.images[0].height}",
            "tokens": f"{width} x {height} each, {self.indices.unique().numel()} codes used",
            "seed": self.seed,
            "steps": f"{self.settings.num_steps}, order {self.settings.order.value}, "
            f"guidance {self.settings.cfg_scale:g}",
        }
        return figure(grid(self.images, columns=columns), rows)

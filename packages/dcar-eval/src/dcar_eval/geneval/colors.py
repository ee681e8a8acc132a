"""The color of what was detected, by CLIP, as GenEval asks it.

CLIP ViT-L/14 as OpenAI published it, through transformers: the benchmark's open_clip network has
the same weights. In fp32, where the benchmark lets CUDA round to fp16.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from dcar_eval.geneval.pretrained import read_pretrained
from dcar_eval.geneval.rules import COLORS
from dcht.errors import CheckpointError
from dcht.images import resize, to_bytes

CLIP = "openai/clip-vit-large-patch14"
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json")
TEMPLATES = ("a photo of a {} {}", "a photo of a {}-colored {}", "a photo of a {} object")
BACKGROUND = "#999"
"""What pixels outside an object's mask are painted."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training pixels in [0, 1]."""


def color_crop(
    image: Image.Image,
    mask: np.ndarray | None,
    box: Sequence[float] | None,
    *,
    background: str = BACKGROUND,
) -> Image.Image:
    """What the classifier is shown of an object: no margin, no least size.

    Args:
        image: of any mode.
        mask: the object's pixels, bool (H, W); the others become `background`. None: all stay.
        box: left, top, right, bottom in pixels, each rounded half to even; what lies beyond the
            image is black. None: no crop.
        background: a color, as Pillow names it.
    """
    image = image.convert("RGB")
    if mask is not None:
        blank = Image.new("RGB", image.size, background)
        image = Image.composite(image, blank, Image.fromarray(mask))
    if box is not None:
        left, top, right, bottom = (round(float(edge)) for edge in box)
        image = image.crop((left, top, right, bottom))
    return image


class ColorClassifier:
    """Names the color of an object among the ten of GenEval.

    Attributes:
        name: where the network is from.
        sha256: of its files; None for weights that were never saved.
    """

    def __init__(
        self, model: CLIPModel, tokenizer: CLIPTokenizer, *, name: str, sha256: str | None
    ) -> None:
        self.model: Any = model.eval()  # transformers' annotations are looser than its classes
        self.tokenizer = tokenizer
        self.name, self.sha256 = name, sha256
        self._classes: dict[str, Tensor] = {}

    @classmethod
    def from_pretrained(cls, name: str | Path = CLIP) -> ColorClassifier:
        """Load a folder or a Hub id: a CLIP with its tokenizer, without pickle.

        Raises:
            CheckpointError: it is not there, or is no CLIP.
        """
        model, folder, sha256 = read_pretrained(CLIPModel, name, files=TOKENIZER_FILES)
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder)
        except Exception as error:  # many kinds; all of them mean: no tokenizer
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{name} has no CLIP tokenizer: {reason}") from None
        return cls(model, tokenizer, name=str(name), sha256=sha256)

    def to(self, device: torch.device) -> ColorClassifier:
        """Move the network; returns self."""
        self.model.to(device)
        self._classes.clear()
        return self

    @torch.inference_mode()
    def classify(self, crop: Image.Image, class_name: str) -> str:
        """One of `COLORS`, for what `color_crop` cut out.

        Args:
            crop: RGB, of any size; the ends of a long one are not seen.
            class_name: what the object is, in GenEval's words.
        """
        if class_name not in self._classes:
            self._classes[class_name] = self._embed_classes(class_name)
        side = self.model.config.vision_config.image_size
        pixels = prepare_crop(crop, side).to(self.model.device)
        found = self.model.get_image_features(pixel_values=rearrange(pixels, "c h w -> 1 c h w"))
        features = F.normalize(found.pooler_output, dim=-1)
        return COLORS[int((features @ self._classes[class_name].T).argmax())]

    def _embed_classes(self, class_name: str) -> Tensor:
        """(colors, width): the mean of three phrases' directions, of length 1."""
        phrases = [text.format(color, class_name) for color in COLORS for text in TEMPLATES]
        tokens = self.tokenizer(phrases, padding=True, return_tensors="pt").to(self.model.device)
        found = self.model.get_text_features(**tokens)
        features = F.normalize(found.pooler_output, dim=-1)
        means = reduce(features, "(k t) e -> k e", "mean", t=len(TEMPLATES))
        return F.normalize(means, dim=-1)


def prepare_crop(crop: Image.Image, side: int) -> Tensor:
    """CLIP's input (3, side, side): short side bicubic to `side`, center crop, normalized.

    Raises:
        ImageError: so narrow a crop that it would grow beyond the cap (see `dcht.images.resize`).
    """
    # Whole numbers as torchvision makes them: truncated for the size, rounded for the corner.
    width, height = (int(side * extent / min(crop.size)) for extent in crop.size)
    resized = resize(crop, (width, height))
    left, top = round((width - side) / 2), round((height - side) / 2)
    pixels = to_bytes(resized.crop((left, top, left + side, top + side))).float() / 255
    mean, std = (rearrange(torch.tensor(values), "c -> c 1 1") for values in (MEAN, STD))
    return (pixels - mean) / std

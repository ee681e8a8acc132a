"""DINOv2 and CLIP as feature extractors, through transformers; weights by name or from a folder.

`dinov2` gives the class token after the last norm, as Stein et al. (2023) take it for FD-DINOv2;
`clip` gives the projected image embedding, as CMMD takes it. Both resize an image to the network's
side, bicubically, and normalize it by the network's own means and deviations.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dcht.errors import UsageError

DEFAULTS = {"dinov2": "facebook/dinov2-large", "clip": "openai/clip-vit-large-patch14-336"}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
DINOV2_SIDE = 224
"""What FD-DINOv2 feeds it, whatever the network's position table was made for."""


class TransformersFeatures(nn.Module):
    """A vision network of transformers that maps uint8 images to features."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, *, side: int, normalization: Any) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.side = side
        for name, values in zip(("mean", "std"), normalization, strict=True):
            column = rearrange(torch.tensor(values), "c -> c 1 1")
            self.register_buffer(name, column, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, d) of images (b, 3, H, W), uint8."""
        x = F.interpolate(
            images.float() / 255, (self.side, self.side), mode="bicubic", antialias=True
        )
        found = self.network(pixel_values=(x.clamp(0, 1) - self.mean) / self.std)
        embeds = getattr(found, "image_embeds", None)
        return found.last_hidden_state[:, 0] if embeds is None else embeds


def load_transformers_features(name: str) -> TransformersFeatures:
    """The extractor `dinov2` or `clip`, or `dinov2:WHERE` with a Hub id or a folder.

    Nothing is asked for over the network with `HF_HUB_OFFLINE=1`.

    Raises:
        UsageError: the weights are not there; the message says what would fetch them.
    """
    kind, _, where = name.partition(":")
    where = where or DEFAULTS[kind]
    from transformers import CLIPVisionModelWithProjection, Dinov2Model

    network_class: Any = {"dinov2": Dinov2Model, "clip": CLIPVisionModelWithProjection}[kind]
    try:
        network = network_class.from_pretrained(where, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"the weights of {where} cannot be had: {reason}; fetch them with "
            f"`hf download {where}`, or name a folder: --extractor {kind}:FOLDER"
        ) from None
    if kind == "dinov2":
        return TransformersFeatures(network, side=DINOV2_SIDE, normalization=IMAGENET)
    return TransformersFeatures(network, side=network.config.image_size, normalization=CLIP)

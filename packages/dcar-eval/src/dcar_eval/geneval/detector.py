"""GenEval's detector without mmcv: Mask2Former through transformers, with mmdet's arithmetic.

Resizing, the reading of masks and the scores are mmdet 2.x's (`instance_postprocess` of its
MaskFormer fusion head): the processor and `post_process_instance_segmentation` of transformers
resize otherwise, cut scores off and return no boxes. Plain PyTorch throughout, so it runs on a CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from PIL import Image
from torch import Tensor
from transformers import Mask2FormerForUniversalSegmentation

from dcar_eval.geneval.pretrained import read_pretrained
from dcar_eval.geneval.prompts import CLASSES
from dcar_eval.geneval.rules import Detection
from dcht.errors import CheckpointError
from dcht.images import to_bytes

HUB = "facebook/mask2former-swin-small-coco-instance"
"""Meta's training of the network; the benchmark has OpenMMLab's (`dcar_eval.geneval.mmdet`)."""
SHORT_SIDE, LONG_SIDE = 800, 1333
PAD_TO = 32
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
MAX_DETECTIONS = 100
"""Pairs of query and class that are looked at."""
UNUSED = (
    "model.pixel_level_module.encoder.swin.layernorm.weight",
    "model.pixel_level_module.encoder.swin.layernorm.bias",
    "criterion.empty_weight",
)
"""What the network holds and does not use on the way to its predictions."""


class DetectorInput(NamedTuple):
    """An image as the network takes it."""

    pixels: Tensor
    """(1, 3, H, W), normalized, padded with zeros at the right and below."""
    resized: tuple[int, int]
    """(height, width) without the padding."""


class Instances(NamedTuple):
    """What the detector found, best first."""

    queries: Tensor
    """(n,) int64."""
    labels: Tensor
    """(n,) int64: indices of `CLASSES`."""
    scores: Tensor
    """(n,) in [0, 1]."""
    boxes: Tensor
    """(n, 4) left, top, right, bottom; right and bottom one past the last pixel; 0 if empty."""
    masks: Tensor
    """(n, H, W) bool."""


def detector_input(image: Image.Image) -> DetectorInput:
    """Scale an RGB image to fit 1333 x 800, however it lies; a square becomes 800 x 800.

    Bilinear without antialiasing, rounded to 8 bits, as mmcv has OpenCV do it.
    """
    sides = (image.height, image.width)
    scale = min(LONG_SIDE / max(sides), SHORT_SIDE / min(sides))
    height, width = (max(1, int(side * scale + 0.5)) for side in sides)
    pixels = rearrange(to_bytes(image).float(), "c h w -> 1 c h w")
    pixels = F.interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False)
    mean, std = (rearrange(torch.tensor(values), "c -> 1 c 1 1") for values in (MEAN, STD))
    normalized = (pixels.round() - mean) / std
    padded = F.pad(normalized, (0, -width % PAD_TO, 0, -height % PAD_TO))
    return DetectorInput(padded, (height, width))


def find_instances(
    class_logits: Tensor,
    mask_logits: Tensor,
    *,
    padded: tuple[int, int],
    resized: tuple[int, int],
    original: tuple[int, int],
) -> Instances:
    """Read the network's output for one image.

    A pair of query and class scores the class's probability times the mean probability of the
    query's own pixels. Nothing is cut off by score.

    Args:
        class_logits: (queries, classes + 1), the last for "no object".
        mask_logits: (queries, h, w), at a quarter of the padded size.
        padded: (height, width) of what the network was given.
        resized: of the image in it, at its upper left.
        original: of the image before it was resized.
    """
    probabilities = class_logits.softmax(dim=-1)[:, :-1]
    num_classes = probabilities.shape[1]
    flat = rearrange(probabilities, "q k -> (q k)")
    scores, pairs = flat.topk(min(MAX_DETECTIONS, len(flat)))
    queries, labels = pairs // num_classes, pairs % num_classes
    used, index = queries.unique(return_inverse=True)
    logits = rearrange(mask_logits[used], "n h w -> 1 n h w")
    logits = F.interpolate(logits, size=padded, mode="bilinear", align_corners=False)
    logits = logits[..., : resized[0], : resized[1]]
    logits = F.interpolate(logits, size=original, mode="bilinear", align_corners=False)[0]
    masks = logits > 0
    inside = reduce(logits.sigmoid() * masks, "n h w -> n", "sum")
    quality = inside / (reduce(masks.float(), "n h w -> n", "sum") + 1e-6)
    scores = scores * quality[index]
    order = scores.argsort(descending=True, stable=True)
    index = index[order]
    boxes = torch.stack([_box(mask) for mask in masks])
    return Instances(queries[order], labels[order], scores[order], boxes[index], masks[index])


def _box(mask: Tensor) -> Tensor:
    """(4,) the extent of a mask (H, W)."""
    columns = mask.any(dim=0).nonzero()
    if not len(columns):
        return torch.zeros(4, device=mask.device)
    rows = mask.any(dim=1).nonzero()
    corners = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return torch.cat(corners).float()


class Detector:
    """Finds the objects of an image.

    Attributes:
        label: what results call these weights: `hf`, `mmdet-weights` or `smoke`.
        name: where they are from.
        sha256: of their files; None for weights that were never saved.
    """

    def __init__(
        self,
        model: Mask2FormerForUniversalSegmentation,
        *,
        label: str,
        name: str,
        sha256: str | None,
    ) -> None:
        self.model: Any = model.eval()  # transformers' annotations are looser than its classes
        self.label, self.name, self.sha256 = label, name, sha256

    @classmethod
    def from_pretrained(cls, name: str | Path = HUB) -> Detector:
        """Load a folder or a Hub id in transformers' layout, without pickle.

        Raises:
            CheckpointError: it is not there, is no Mask2Former, or has other classes than COCO's.
        """
        model, _, sha256 = read_pretrained(Mask2FormerForUniversalSegmentation, name, unused=UNUSED)
        if model.config.num_labels != len(CLASSES):
            raise CheckpointError(
                f"detector {name} knows {model.config.num_labels} classes, not the {len(CLASSES)} "
                f"of COCO's instances; {HUB} does"
            )
        return cls(model, label="hf", name=str(name), sha256=sha256)

    def to(self, device: torch.device) -> Detector:
        """Move the network; returns self."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def detect(self, image: Image.Image) -> list[Detection]:
        """What an RGB image shows, best first, with masks of the image's size."""
        pixels, resized = detector_input(image)
        output = self.model(pixel_values=pixels.to(self.model.device))
        found = find_instances(
            output.class_queries_logits[0],
            output.masks_queries_logits[0],
            padded=(pixels.shape[2], pixels.shape[3]),
            resized=resized,
            original=(image.height, image.width),
        )
        masks = found.masks.cpu().numpy()
        rows = zip(
            found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), masks, strict=True
        )
        return [
            Detection(class_name=CLASSES[label], score=score, box=tuple(box), mask=mask)
            for label, score, box, mask in rows
        ]

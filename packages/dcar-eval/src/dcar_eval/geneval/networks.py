"""The two networks that judge images, and a look at known images before they are believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from skimage import data

from dcar_eval.geneval.colors import CLIP, ColorClassifier, color_crop
from dcar_eval.geneval.detector import HUB, Detector
from dcar_eval.geneval.mmdet import SUFFIX, load_mmdet
from dcar_eval.geneval.rules import COLORS, Detection
from dcht.errors import CheckpointError

SMOKE = "smoke"
"""Label of random weights."""
PICTURE, CLASS, LEAST_SCORE = "astronaut", "person", 0.5
"""A photograph in scikit-image's wheel, what it shows, and what a sound detector gives it at least:
one with damaged weights, or whose attention a GPU computes wrongly, stays near 1 / 80."""
LEAST_COLORS = 5
"""Of ten plain patches, those that must be named rightly; guessing gets one."""


class Judges(NamedTuple):
    """What judges images."""

    detector: Detector
    colors: ColorClassifier

    def to(self, device: torch.device) -> Judges:
        """Both on a device."""
        return Judges(self.detector.to(device), self.colors.to(device))

    def look_at(self, image: Image.Image) -> list[Detection]:
        """What an RGB image shows; each detection can name its color."""
        return [
            replace(found, color=self._color_of(image, found))
            for found in self.detector.detect(image)
        ]

    def _color_of(self, image: Image.Image, found: Detection) -> Callable[[], str]:
        def classify() -> str:
            return self.colors.classify(color_crop(image, found.mask, found.box), found.class_name)

        return classify


def load_networks(detector: str = HUB, clip: str = CLIP) -> Judges:
    """Load both.

    Args:
        detector: a folder or Hub id in transformers' layout, or the `.pth` of mmdet 2.x.
        clip: a folder or Hub id.

    Raises:
        CheckpointError: one is not there or does not fit.
    """
    own = detector.endswith(SUFFIX)
    found = load_mmdet(Path(detector)) if own else Detector.from_pretrained(detector)
    return Judges(found, ColorClassifier.from_pretrained(clip))


def check_networks(networks: Judges) -> dict[str, Any]:
    """Have both judge what is known: a photograph of an astronaut, and ten plain patches.

    Returns:
        The detector's best score of a person, and how many colors were named rightly.

    Raises:
        CheckpointError: a result that sound networks do not give; random ones may.
    """
    photograph = Image.fromarray(getattr(data, PICTURE)())
    scores = [f.score for f in networks.detector.detect(photograph) if f.class_name == CLASS]
    best = max(scores, default=0.0)
    patches = {color: Image.new("RGB", (64, 64), color) for color in COLORS}
    named = sum(networks.colors.classify(patch, "object") == c for c, patch in patches.items())
    if networks.detector.label != SMOKE:
        if best < LEAST_SCORE:
            raise CheckpointError(
                f"the detector gives the {CLASS} in scikit-image's image {PICTURE!r} a score of "
                f"{best:.3f}, at least {LEAST_SCORE} is expected: its weights are damaged, or this "
                "device computes wrongly (try --device cpu)"
            )
        if named < LEAST_COLORS:
            raise CheckpointError(
                f"CLIP {networks.colors.name} names {named} of {len(COLORS)} plain patches of "
                f"color rightly, at least {LEAST_COLORS} are expected: its weights are damaged"
            )
    return {f"score of the {CLASS} in {PICTURE}": round(best, 4), "plain colors right": named}

"""What the tabs share: one pipeline, its limits, and the way from a request to files."""

from __future__ import annotations

import base64
import io
import math
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from dcar.app.recipes import Recipe, changed, file_name
from dcar.config import SAFETY_THRESHOLD
from dcar.pipeline import TextToImage
from dcar.pipeline.edit import Edit
from dcar.pipeline.film import overlaid
from dcar.pipeline.notes import prompt_notes
from dcar.pipeline.record import MAX_PROMPT, Record
from dcar.pipeline.results import StepPreview
from dcar.pipeline.series import ImageSeries, replay_series
from dcht.errors import UsageError
from dcht.images import grid, save_png

MAX_IMAGES = 8
"""Images of one request, which are one batch."""
MAX_SIDE = 1024
"""Pixels of the longest side."""
MAX_STEPS = 64
MAX_UPLOAD = "20mb"
MAX_WAITING = 16
"""Requests in the queue; one runs at a time."""
FRAME_QUALITY = 85
"""Of the JPEGs that show the steps; results are PNG."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A run so far."""

    frames: list[dict[str, str]]
    """A frame a step: `image` and the same under the token grid as `tokens` (data URLs), and
    `label`."""
    images: list[Image.Image]
    """As of the last step."""
    done: bool


class Studio:
    """A pipeline with what a person may ask of it.

    Attributes:
        pipe: the pipeline.
        ckpt: what it was loaded from; None is the bundled one.
        safety: the checker of prompts, likewise.
    """

    def __init__(self, pipe: TextToImage, *, ckpt: str | None = None, safety: str | None = None):
        self.pipe = pipe
        self.ckpt = ckpt
        self.safety = safety
        self.folder = Path(tempfile.mkdtemp(prefix="dcar-app-"))
        # With the studio, or at the latest with the process, however it is served.
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def patch(self) -> int:
        """Pixels of a token's side."""
        return self.pipe.tokenizer.config.downsampling

    def plan(
        self,
        prompt: str,
        *,
        seed: int,
        num_images: int = 1,
        size: tuple[int, int] | None = None,
        edit: Edit | None = None,
        settings: Mapping[str, Any],
    ) -> tuple[ImageSeries, list[str]]:
        """A request as a series, and notes for the user, a line each.

        Args:
            prompt: as it was asked for.
            seed: of the first image.
            num_images: at most `MAX_IMAGES`.
            size: (width, height); None: the checkpoint's, or the edit's.
            edit: of an image, if it is one.
            settings: sampling settings by name.

        Raises:
            UsageError: a number out of range, or a prompt that is none.
        """
        prompt = prompt.strip()
        if not prompt:
            raise UsageError("the prompt is empty; write what the image should show")
        if len(prompt) > MAX_PROMPT:
            raise UsageError(f"the prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,}")
        for name, number, most in (("images", num_images, MAX_IMAGES),
                                   ("steps", settings.get("num_steps", 1), MAX_STEPS)):  # fmt: skip
            if not 1 <= number <= most:
                raise UsageError(f"{name} is {number}; expected 1 to {most}")
        if edit is not None:
            height, width = (length * self.patch for length in edit.region.shape)
        else:
            width, height = size or (self.pipe.size[1], self.pipe.size[0])
        if max(width, height) > MAX_SIDE:
            raise UsageError(f"{width} x {height} is too large here; a side has {MAX_SIDE} at most")
        found = self.pipe.screen([prompt] * num_images)
        series = ImageSeries(
            prompts=found.prompts,
            verdicts=found.verdicts,
            seed=seed,
            height=height,
            width=width,
            settings=self.pipe.settings(**settings),
            batch_size=num_images,
            edit=edit,
        )
        first = type(found)(found.prompts[:1], found.verdicts[:1])
        return series, prompt_notes(self.pipe, first)

    def run(self, series: ImageSeries) -> Iterator[Progress]:
        """Generate a series in one batch, with its progress after every step."""
        frames: list[dict[str, str]] = []
        before: StepPreview | None = None
        hidden = self.pipe.model.generator.mask_id
        for preview in series.stream(self.pipe, range(len(series.prompts))):
            known = int((preview.indices != hidden).sum())
            total = preview.indices.numel()
            label = f"step {preview.step} of {preview.num_steps}, {known} of {total} tokens"
            frames.append(
                {
                    "image": _frame(preview.images),
                    "tokens": _frame(overlaid(preview, before, hidden=hidden)),
                    "label": "refined by the residual" if preview.refined else label,
                }
            )
            before = preview
            yield Progress(frames=list(frames), images=preview.images, done=preview.refined)

    def save(self, series: ImageSeries, images: list[Image.Image], *, prompt: str) -> list[Path]:
        """Write the images of a series as PNG with their records, into a folder of their own."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        records = series.records(self.pipe, range(len(images)))
        paths = []
        for number, (image, record) in enumerate(zip(images, records, strict=True)):
            path = folder / file_name(prompt, series.seed, number)
            save_png(image, path, record.text())
            paths.append(path)
        return paths

    def recipe(self, series: ImageSeries, prompt: str, **edit: Any) -> Recipe:
        """A series as what makes it again; `edit` are the fields of `Recipe` about one."""
        size = (series.width, series.height)
        own = (self.pipe.size[1], self.pipe.size[0])
        checker = self.pipe.safety
        threshold = SAFETY_THRESHOLD if checker is None else checker.threshold
        device = self.pipe.device
        return Recipe(
            prompt=prompt.strip(),
            seed=series.seed,
            num_images=len(series.prompts),
            size=None if edit or size == own else size,
            settings=changed(series.settings, self.pipe.sampling),
            ckpt=self.ckpt,
            safety=self.safety,
            safety_threshold=None if threshold == SAFETY_THRESHOLD else threshold,
            precision=self.pipe.precision,
            device=f"{device.type}:{device.index}" if device.index else device.type,
            **edit,
        )

    def replay(self, record: Record, image: Image.Image | None) -> Path:
        """The PNG of a record, made again; `image` is what was edited, if it was an edit.

        Raises:
            CheckpointError: it was made with other weights.
            UsageError: `image` is not what was edited, or it is larger than this app makes.
        """
        series = replay_series(self.pipe, record, image)
        if max(record.width, record.height) > MAX_SIDE or record.batch_size > MAX_IMAGES:
            raise UsageError(
                f"it was made {record.width} x {record.height} in a batch of {record.batch_size}; "
                f"here are at most {MAX_SIDE} pixels a side and {MAX_IMAGES} images: dcar replay "
                "has no such limits"
            )
        threads = torch.get_num_threads()
        torch.set_num_threads(record.threads)
        try:
            images = series.images(self.pipe, range(record.batch_size))
        finally:
            torch.set_num_threads(threads)
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "replayed.png"
        save_png(images[record.row], path, record.text())
        return path


def settings_for(studio: Studio, **asked: Any) -> dict[str, Any]:
    """Those of the settings asked for that are not the checkpoint's own."""
    own = studio.pipe.sampling
    same = {name: getattr(getattr(own, name), "value", getattr(own, name)) for name in asked}
    return {name: value for name, value in asked.items() if value != same[name]}


def data_url(image: Image.Image, *, kind: str = "JPEG") -> str:
    """An image as a `data:` URL."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=FRAME_QUALITY)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _frame(images: list[Image.Image]) -> str:
    return data_url(grid(images, columns=math.ceil(math.sqrt(len(images)))))

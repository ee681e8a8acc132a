"""Where the images of a benchmark come from: a model, or a folder of anyone's."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from dcar.pipeline import TextToImage
from dcar.pipeline.record import RECORD
from dcar.pipeline.series import ImageSeries
from dcar.sampling_config import SamplingConfig
from dcar_eval.metrics.protocol import GenerationProtocol, ImageFormat
from dcar_eval.mjhq.benchmark import Prompt, find_images
from dcht.checkpoint import to_dict
from dcht.data.entries import Entry, file_entry
from dcht.errors import UsageError
from dcht.files import write_atomic
from dcht.images import ImageError, list_images, read_png_text, save_png


class GeneratedImages:
    """Images that a model generates, `KEY.jpg` or `KEY.png`; each says what it depends on.

    A PNG says it as `dcar generate` does, a JPEG in its comment. What is there and says the same
    is kept.
    """

    def __init__(
        self,
        pipe: TextToImage,
        prompts: Sequence[Prompt],
        folder: Path,
        *,
        protocol: GenerationProtocol,
        seed: int,
        batch_size: int,
        sampling: SamplingConfig,
        force: bool = False,
    ) -> None:
        """Draw prompt k with the noise of (seed, k) into `folder`.

        Raises:
            UsageError: a seed that is negative.
        """
        if seed < 0:
            raise UsageError(f"seed {seed} is negative; 0 or more")
        self.pipe, self.force, self.file = pipe, force, protocol.file
        self.given: list[Entry] = []
        self.files = [folder / f"{prompt.key}.{protocol.file.name}" for prompt in prompts]
        self.plan = ImageSeries(
            prompts=[prompt.prompt for prompt in prompts],
            verdicts=[None] * len(prompts),
            seed=seed,
            height=protocol.size,
            width=protocol.size,
            settings=sampling,
            batch_size=batch_size,
        )

    def settings(self) -> dict[str, Any]:
        """What the images depend on besides the prompts."""
        sampling = to_dict(self.plan.settings)
        return {**self.pipe.identity, "seed": self.plan.seed, "sampling": sampling}

    def images(self, batch: range) -> list[Path]:
        """The files of a batch of prompts, generated unless they are there.

        Raises:
            UsageError: a file is there, made with other settings, and `force` is off.
        """
        files = [self.files[index] for index in batch]
        texts = [record.text() for record in self.plan.records(self.pipe, batch)]
        done = [self._is_done(file, text) for file, text in zip(files, texts, strict=True)]
        if not all(done):
            images = self.plan.images(self.pipe, batch)
            for file, text, image in zip(files, texts, images, strict=True):
                if self.file is ImageFormat.png:
                    save_png(image, file, text)
                else:
                    _save_jpeg(image, file, text[RECORD])
        return files

    def _is_done(self, file: Path, text: dict[str, str]) -> bool:
        if self.force or not file.exists():
            return False
        if _read_record(file) != json.loads(text[RECORD]):
            raise UsageError(f"{file} was made otherwise; use --force or another --out")
        return True


def _save_jpeg(image: Image.Image, file: Path, record: str) -> None:
    """Write a JPEG with Pillow's defaults, whole or not at all, the record in its comment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", comment=record.encode())
    write_atomic(file, buffer.getvalue())


def _read_record(file: Path) -> Any:
    """The record of an image, None if it has none."""
    try:
        if file.suffix == ".png":
            return json.loads(read_png_text(file).get(RECORD, "null"))
        with Image.open(file, formats=("JPEG",)) as image:
            return json.loads(image.info.get("comment", b"null"))
    except (ImageError, OSError, ValueError):
        return None


class GivenImages:
    """Images in a folder, called after the keys."""

    def __init__(self, folder: Path, prompts: Sequence[Prompt]) -> None:
        """Find them all.

        Raises:
            UsageError: one is missing, or there twice; it is named.
        """
        entries = [
            file_entry(str(path), path.relative_to(folder).as_posix())
            for path in list_images(folder)
        ]
        self.given = find_images(entries, prompts, str(folder))
        self.files = [folder / entry.name for entry in self.given]

    def settings(self) -> dict[str, Any]:
        """What the images depend on is not known; what they hold is hashed."""
        return {"weights": None}

    def images(self, batch: range) -> list[Path]:
        """The files of a batch of prompts."""
        return [self.files[index] for index in batch]

"""What a picture's PNG text says: everything that the picture depends on.

`Description` is the prompt, `dcar` a JSON object of the rest. That record is how a repeated command
knows what is done, and what replay reads. An edit's record has the hash of the picture that was
edited, not the picture: replay asks for it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dcar import __version__
from dcar.edit import Edit
from dcar.safety import Verdict
from dcar.sampling_config import SamplingConfig
from dcht.checkpoint import from_dict, to_dict
from dcht.errors import CheckpointError, UsageError
from dcht.images import read_png_text, resize_crop

RECORD = "dcar"


@dataclass(kw_only=True)
class EditRecord:
    """What was edited, and where."""

    image_sha256: str
    """Of the picture's RGB pixels, row by row."""
    width: int
    height: int
    """Its size; a picture of another size was resized and cropped to it."""
    left: int
    top: int
    """Where it lies in the result."""
    region: list[str]
    """The tokens of the result, a word a row: `#` may change, `.` is kept."""
    strength: float

    @classmethod
    def of(cls, edit: Edit) -> EditRecord:
        """The record of an edit."""
        return cls(
            image_sha256=pixels_sha256(edit.image),
            width=edit.image.width,
            height=edit.image.height,
            left=edit.left,
            top=edit.top,
            region=["".join("#" if change else "." for change in row) for row in edit.region],
            strength=edit.strength,
        )

    def edit(self, image: Image.Image) -> Edit:
        """The same edit of the same picture.

        Raises:
            UsageError: another picture.
        """
        image = resize_crop(image, (self.width, self.height))
        if (found := pixels_sha256(image)) != self.image_sha256:
            raise UsageError(
                f"--image is not the picture that was edited: its pixels have SHA-256 {found}, "
                f"that had {self.image_sha256}"
            )
        region = np.array([[change == "#" for change in row] for row in self.region])
        return Edit(
            image=image, region=region, left=self.left, top=self.top, strength=self.strength
        )


@dataclass(kw_only=True)
class Record:
    """Everything a picture depends on."""

    prompt: str
    seed: int
    index: int
    """Number of the image; its noise depends on (seed, index)."""
    height: int
    width: int
    settings: SamplingConfig
    weights: str | None
    """SHA-256 of the generator's checkpoint."""
    batch_size: int
    row: int
    """Its place in the batch: matrix products differ in the last bits with the batch..."""
    threads: int
    """...and with the threads..."""
    device: str
    """...and with the device."""
    edit: EditRecord | None = None
    safety: Verdict | None = None
    """What the safety checker said. If it rejected, `prompt` is what was drawn instead."""

    def text(self) -> dict[str, str]:
        """The text chunks of the PNG."""
        return png_text(self.prompt, to_dict(self))


def png_text(description: str, content: Any) -> dict[str, str]:
    """The text chunks of a PNG with this record, or list of them."""
    return {
        "Software": f"dcar {__version__}",
        "Description": description,
        RECORD: json.dumps(content, ensure_ascii=False),
    }


def read_record(path: Path) -> Record:
    """The record of a picture.

    Raises:
        UsageError: not a PNG, or not one that `dcar` wrote as a single picture.
    """
    content = read_png_text(path).get(RECORD)
    if content is None:
        raise UsageError(f"{path} holds no record of dcar; it was not made by dcar generate")
    try:
        found: Any = json.loads(content)
        if isinstance(found, list):
            raise UsageError(
                f"{path} is a sheet of {len(found)} pictures; replay takes a single one"
            )
        return from_dict(Record, found, str(path))
    except (CheckpointError, json.JSONDecodeError, AttributeError) as error:
        raise UsageError(f"the record of {path} cannot be read: {error}") from None


def pixels_sha256(image: Image.Image) -> str:
    """SHA-256 of an image's RGB pixels, whatever its file was."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()

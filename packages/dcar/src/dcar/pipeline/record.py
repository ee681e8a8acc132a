"""What an image's PNG text says: everything that the image depends on.

`Description` is the prompt, `dcar` a JSON object of the rest, and an XMP packet says in IPTC's
words that a model made it. The record is how a repeated command knows what is done, and what replay
reads. An edit's record has the hash of the image that was edited, not the image: replay asks
for it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image

from dcar.pipeline.edit import Edit
from dcar.pipeline.safety import Verdict
from dcar.sampling_config import SamplingConfig
from dcht.checkpoint import from_dict, to_dict
from dcht.device import Precision
from dcht.errors import CheckpointError, UsageError
from dcht.files import parse_json
from dcht.images import MAX_PIXELS, read_png_text, resize_crop
from dcht.ranges import SHA256, Length, Pattern, Range, check_ranges

RECORD = "dcar"
XMP = "XML:com.adobe.xmp"
"""The keyword under which a PNG has its XMP packet."""
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SIDE = Range(1, MAX_PIXELS)
MAX_PROMPT = 100_000
"""Characters of the longest prompt."""


@dataclass(kw_only=True)
class EditRecord:
    """What was edited, and where."""

    image_sha256: Annotated[str, SHA256]
    """Of the image's RGB pixels, row by row."""
    width: Annotated[int, SIDE]
    height: Annotated[int, SIDE]
    """Its size; an image of another size was resized and cropped to it."""
    left: Annotated[int, Range(0, MAX_PIXELS)]
    top: Annotated[int, Range(0, MAX_PIXELS)]
    """Where it lies in the result."""
    region: Annotated[list[str], Length(1, MAX_PIXELS), Pattern("[#.]+", "rows of # and .")]
    """The tokens of the result, a word a row: `#` may change, `.` is kept."""
    strength: Annotated[float, Range(0, 1, above=True)]

    def __post_init__(self) -> None:
        """Refuse what is no edit."""
        check_ranges(self)
        _check_pixels(self.width, self.height)
        if len({len(row) for row in self.region}) > 1:
            raise UsageError("the rows of region are not of one length")

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
        """The same edit of the same image.

        Raises:
            UsageError: another image.
        """
        image = resize_crop(image, (self.width, self.height))
        if (found := pixels_sha256(image)) != self.image_sha256:
            raise UsageError(
                f"--image is not the image that was edited: its pixels have SHA-256 {found}, "
                f"that had {self.image_sha256}"
            )
        region = np.array([[change == "#" for change in row] for row in self.region])
        return Edit(
            image=image, region=region, left=self.left, top=self.top, strength=self.strength
        )


@dataclass(kw_only=True)
class Record:
    """Everything an image depends on."""

    prompt: Annotated[str, Length(0, MAX_PROMPT)]
    seed: Annotated[int, Range(0, 2**128 - 1)]
    index: Annotated[int, Range(0, 2**63 - 1)]
    """Number of the image; its noise depends on (seed, index)."""
    height: Annotated[int, SIDE]
    width: Annotated[int, SIDE]
    settings: SamplingConfig
    weights: Annotated[str | None, SHA256]
    """SHA-256 of the generator's checkpoint."""
    batch_size: Annotated[int, Range(1, 1024)]
    row: Annotated[int, Range(0, 1023)]
    """Its place in the batch: matrix products differ in the last bits with the batch..."""
    threads: Annotated[int, Range(1, 1024)]
    """...and with the threads..."""
    device: Annotated[str, Pattern("cpu|cuda|mps", "cpu, cuda or mps")]
    """...and with the device..."""
    precision: Precision = Precision.fp32
    """...and much more with the precision."""
    edit: EditRecord | None = None
    safety: Verdict | None = None
    """What the safety checker said. If it rejected, `prompt` is what was generated instead."""
    left_out: Annotated[str | None, Length(1, MAX_PROMPT)] = None
    """The end of the prompt that the checkpoint's text encoder did not read; None: nothing."""

    def __post_init__(self) -> None:
        """Refuse what no image can depend on."""
        check_ranges(self)
        _check_pixels(self.width, self.height)
        if self.row >= self.batch_size:
            raise UsageError(f"row is {self.row}; expected less than batch_size {self.batch_size}")
        if self.edit is not None:
            _check_edit(self.edit, self.width, self.height)

    def text(self) -> dict[str, str]:
        """The text chunks of the PNG."""
        return png_text(self.prompt, self.content(), edited=self.edit is not None)

    def content(self) -> dict[str, Any]:
        """The record as plain JSON types; `left_out` and `precision` only where they say a thing.

        Without a word the precision is fp32, as in records that were written before it was said.
        """
        content = to_dict(self)
        if self.precision is Precision.fp32:
            del content["precision"]
        if self.left_out is None:
            del content["left_out"]
        return content


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UsageError(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")


def _check_edit(edit: EditRecord, width: int, height: int) -> None:
    """Refuse an edit whose image or region does not fit a result of this size."""
    rows, columns = len(edit.region), len(edit.region[0])
    patch = height // rows
    if patch * rows != height or patch * columns != width:
        raise UsageError(
            f"edit.region has {columns} x {rows} tokens, which {width} x {height} pixels have not"
        )
    if any(pixels % patch for pixels in (edit.left, edit.top, edit.width, edit.height)) or (
        edit.left + edit.width > width or edit.top + edit.height > height
    ):
        raise UsageError(
            f"edit: {edit.width} x {edit.height} pixels at {edit.left}, {edit.top} do not lie on "
            f"the {columns} x {rows} tokens of {width} x {height} pixels"
        )


def png_text(description: str, content: Any, *, edited: bool) -> dict[str, str]:
    """The text chunks of a PNG with this record, or list of them; `edited` where it is of edits."""
    software = f"dcar {version('dcar')}"
    return {
        "Software": software,
        "Description": description,
        RECORD: json.dumps(content, ensure_ascii=False),
        XMP: xmp_packet(software, edited=edited),
    }


def xmp_packet(software: str, *, edited: bool) -> str:
    """XMP with IPTC's `DigitalSourceType`: made by a trained model, or composed with what is."""
    kind = "compositeWithTrainedAlgorithmicMedia" if edited else "trainedAlgorithmicMedia"
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'xmp:CreatorTool="{software}" '
        f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPES}{kind}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


def read_record(path: Path) -> Record:
    """The record of an image.

    Raises:
        UsageError: not a PNG, or not one that `dcar` wrote as a single image.
    """
    content = read_png_text(path).get(RECORD)
    if content is None:
        raise UsageError(
            f"{path} holds no record of dcar; it is not of dcar generate or edit, or was made with "
            "--no-metadata"
        )
    found = parse_json(content, f"the record of {path}")
    if isinstance(found, list):
        raise UsageError(f"{path} is a sheet of {len(found)} images; replay takes a single one")
    try:
        record = from_dict(Record, found, f"the record of {path} cannot be read")
    except CheckpointError as error:
        raise UsageError(str(error)) from None
    with Image.open(path, formats=("PNG",)) as image:
        if image.size != (record.width, record.height):
            raise UsageError(
                f"{path} is {image.width} x {image.height}, its record says {record.width} x "
                f"{record.height}: one of them was changed"
            )
    return record


def pixels_sha256(image: Image.Image) -> str:
    """SHA-256 of an image's RGB pixels, whatever its file was."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()

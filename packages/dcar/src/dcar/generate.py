"""Pictures on disk: what `dcar generate` and `dcar replay` do.

A picture's PNG text says everything that it depends on: `Description` is the prompt, `dcar` a JSON
object of the rest. That record is how a repeated command knows what is done, and what replay reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from dcar import __version__
from dcar.config import SamplingConfig
from dcar.pipeline import TextToImage
from dcht.checkpoint import from_dict, to_dict, write_atomic
from dcht.errors import CheckpointError, UsageError
from dcht.images import ImageError, grid, read_png_text, save_png

RECORD = "dcar"
FRAME_MS, LAST_FRAME_MS = 250, 2000


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

    def text(self) -> dict[str, str]:
        """The text chunks of the PNG."""
        return {
            "Software": f"dcar {__version__}",
            "Description": self.prompt,
            RECORD: json.dumps(to_dict(self), ensure_ascii=False),
        }


@dataclass(kw_only=True)
class Plan:
    """A series of pictures: what `dcar generate` was asked for."""

    prompts: list[str]
    """One an image."""
    seed: int
    height: int
    width: int
    settings: SamplingConfig
    batch_size: int

    def batches(self) -> list[range]:
        """The images of each batch."""
        count = len(self.prompts)
        return [
            range(start, min(start + self.batch_size, count))
            for start in range(0, count, self.batch_size)
        ]

    def records(self, pipe: TextToImage, batch: range) -> list[Record]:
        """The records of a batch's images."""
        return [
            Record(
                prompt=self.prompts[index],
                seed=self.seed,
                index=index,
                height=self.height,
                width=self.width,
                settings=self.settings,
                weights=pipe.sha256,
                batch_size=len(batch),
                row=row,
                threads=torch.get_num_threads(),
                device=pipe.device.type,
            )
            for row, index in enumerate(batch)
        ]

    def sheet_text(self, pipe: TextToImage) -> dict[str, str]:
        """The text chunks of all images in one picture."""
        records = [record for batch in self.batches() for record in self.records(pipe, batch)]
        return {
            "Software": f"dcar {__version__}",
            "Description": "\n".join(self.prompts),
            RECORD: json.dumps([to_dict(record) for record in records], ensure_ascii=False),
        }


def generate_images(pipe: TextToImage, plan: Plan, out: Path, *, force: bool = False) -> list[Path]:
    """Write the one image of a plan to `x.png`, or `NNNNN.png` for each into a folder.

    What an equal command wrote is kept.

    Raises:
        UsageError: there are pictures of other settings and `force` is off.
    """
    paths = [out / f"{index:05d}.png" for index in range(len(plan.prompts))]
    if out.suffix.lower() == ".png":
        paths = [out]
    todo = []
    for batch in plan.batches():
        texts = [record.text() for record in plan.records(pipe, batch)]
        files = [paths[index] for index in batch]
        done = [_is_done(file, text, force=force) for file, text in zip(files, texts, strict=True)]
        if not all(done):
            todo.append((batch, texts, files))
    total = sum(len(batch) for batch, _, _ in todo)
    with tqdm(total=total, unit="img", desc="generate", disable=None) as progress:
        for batch, texts, files in todo:
            images = _sample(pipe, plan, batch)
            for image, text, file in zip(images, texts, files, strict=True):
                save_png(image, file, text)
            progress.update(len(batch))
    return paths


def generate_sheet(pipe: TextToImage, plan: Plan, out: Path, *, force: bool = False) -> list[Path]:
    """Write all images as one contact sheet, whose text holds the record of each.

    Raises:
        UsageError: the file is there, made with other settings, and `force` is off.
    """
    text = plan.sheet_text(pipe)
    if not _is_done(out, text, force=force):
        images = [image for batch in plan.batches() for image in _sample(pipe, plan, batch)]
        save_png(grid(images, columns=math.ceil(math.sqrt(len(images)))), out, text)
    return [out]


def generate_film(pipe: TextToImage, plan: Plan, out: Path, *, force: bool = False) -> list[Path]:
    """Write the unmasking of all images, side by side and in one batch, as an animated GIF.

    Raises:
        UsageError: the file is there, made with other settings, and `force` is off.
    """
    comment = hashlib.sha256(plan.sheet_text(pipe)[RECORD].encode()).hexdigest().encode()
    if out.exists() and not force:
        if _gif_comment(out) != comment:
            raise UsageError(f"{out} exists and was made otherwise; use --force or another name")
        return [out]
    previews = pipe.steps(
        plan.prompts, settings=plan.settings, size=(plan.height, plan.width), seed=plan.seed
    )
    columns = math.ceil(math.sqrt(len(plan.prompts)))
    frames = [grid(preview.images, columns=columns) for preview in previews]
    times = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    film = io.BytesIO()
    frames[0].save(
        film, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0,
        comment=comment,
    )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, film.getvalue())
    return [out]


def read_record(path: Path) -> Record:
    """The record of a picture.

    Raises:
        UsageError: not a PNG, or not one that `dcar generate` wrote as a single picture.
    """
    content = read_png_text(path).get(RECORD)
    if content is None:
        raise UsageError(f"{path} holds no record of dcar; it was not made by dcar generate")
    found: Any = json.loads(content)
    if isinstance(found, list):
        raise UsageError(f"{path} is a sheet of {len(found)} pictures; replay takes a single one")
    try:
        return from_dict(Record, found, str(path))
    except CheckpointError as error:
        raise UsageError(f"the record of {path} cannot be read: {error}") from None


def replay_file(pipe: TextToImage, record: Record, out: Path, *, force: bool = False) -> list[Path]:
    """Make the picture of a record again: the same batch size, row and threads.

    Raises:
        CheckpointError: it was made with other weights.
        UsageError: the file is there, made with other settings, and `force` is off.
    """
    if record.weights != pipe.sha256:
        raise CheckpointError(
            f"the picture was made with weights {record.weights}, these are {pipe.sha256}; name "
            "the right ones with --ckpt"
        )
    if not _is_done(out, record.text(), force=force):
        torch.set_num_threads(record.threads)
        # The rest of the batch has the same prompt: a row's value does not depend on its content.
        plan = Plan(
            prompts=[record.prompt] * record.batch_size,
            seed=record.seed,
            height=record.height,
            width=record.width,
            settings=record.settings,
            batch_size=record.batch_size,
        )
        first = record.index - record.row
        images = _sample(pipe, plan, range(record.batch_size), first_index=first)
        save_png(images[record.row], out, record.text())
    return [out]


def _sample(
    pipe: TextToImage, plan: Plan, batch: range, *, first_index: int | None = None
) -> list[Image.Image]:
    """The images of one batch."""
    *_, last = pipe.steps(
        [plan.prompts[index] for index in batch],
        settings=plan.settings,
        size=(plan.height, plan.width),
        seed=plan.seed,
        first_index=batch.start if first_index is None else first_index,
        previews=False,
    )
    return last.images


def _is_done(path: Path, text: dict[str, str], *, force: bool) -> bool:
    """Whether an equal command wrote this file.

    Raises:
        UsageError: something else is there and `force` is off.
    """
    if force or not path.exists():
        return False
    try:
        same = read_png_text(path) == text
    except ImageError:
        same = False
    if not same:
        raise UsageError(f"{path} exists and was made otherwise; use --force or another --out")
    return True


def _gif_comment(path: Path) -> bytes | None:
    try:
        with Image.open(path, formats=("GIF",)) as image:
            return image.info.get("comment")
    except OSError:
        return None

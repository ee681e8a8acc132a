"""Images on disk: what `dcar generate`, `dcar edit` and `dcar replay` write.

Every image says what it depends on (`dcar.pipeline.record`); what an equal command wrote is kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from dcar.pipeline import TextToImage
from dcar.pipeline.edit import Edit
from dcar.pipeline.film import Film
from dcar.pipeline.progress import counted_steps
from dcar.pipeline.record import RECORD, XMP, EditRecord, Record, png_text
from dcar.pipeline.results import StepPreview
from dcar.pipeline.safety import Verdict
from dcar.sampling_config import SamplingConfig
from dcht.errors import CheckpointError, UsageError
from dcht.files import write_atomic
from dcht.images import ImageError, grid, open_image, read_png_text, save_png
from dcht.releases import holder

Show = Callable[[Sequence[Image.Image]], object]
"""Takes the images of a batch as they are after a step."""


@dataclass(kw_only=True)
class ImageSeries:
    """A series of images: what was asked for."""

    prompts: list[str]
    """One an image, after the safety check..."""
    verdicts: list[Verdict | None]
    """...and what that said of each."""
    seed: int
    height: int
    width: int
    settings: SamplingConfig
    batch_size: int
    first_index: int = 0
    """Number of the first image."""
    edit: Edit | None = None
    """Of one image, for all images."""
    metadata: bool = True
    """Whether the files say what they depend on, and that a model made them."""

    def batches(self) -> list[range]:
        """The images of each batch."""
        count = len(self.prompts)
        return [
            range(start, min(start + self.batch_size, count))
            for start in range(0, count, self.batch_size)
        ]

    @property
    def batch_steps(self) -> int:
        """Steps of a batch as `generate_batch` counts them: the residual is one more."""
        return self.settings.num_steps + 1

    def records(self, pipe: TextToImage, batch: range) -> list[Record]:
        """The records of a batch's images."""
        edit = None if self.edit is None else EditRecord.of(self.edit)
        return [
            Record(
                prompt=self.prompts[image],
                seed=self.seed,
                index=self.first_index + image,
                height=self.height,
                width=self.width,
                settings=self.settings,
                weights=pipe.sha256,
                batch_size=len(batch),
                row=row,
                threads=torch.get_num_threads(),
                device=pipe.device.type,
                precision=pipe.precision,
                edit=edit,
                safety=self.verdicts[image],
                left_out=pipe.text.left_out(self.prompts[image]) or None,
            )
            for row, image in enumerate(batch)
        ]

    def sheet_text(self, pipe: TextToImage, *, film: bool = False) -> dict[str, str]:
        """The text chunks of all images in one image; a `film` of their steps says that it is."""
        records = [record for batch in self.batches() for record in self.records(pipe, batch)]
        if not self.metadata:
            return {}
        kind = {"film": True} if film else {}
        content = [record.content() | kind for record in records]
        return png_text("\n".join(self.prompts), content, edited=self.edit is not None)

    def texts(self, pipe: TextToImage, batch: range) -> list[dict[str, str]]:
        """The text chunks of each image of a batch."""
        if not self.metadata:
            return [{} for _ in batch]
        return [record.text() for record in self.records(pipe, batch)]

    def images(
        self,
        pipe: TextToImage,
        batch: range,
        *,
        stepped: Callable[[], object] | None = None,
        show: Show | None = None,
    ) -> list[Image.Image]:
        """The images of a batch, generated; `stepped` as `generate_batch` has it.

        With `show`, each step's are shown as soon as it is done.
        """
        images: list[Image.Image] = []
        for preview in self.stream(pipe, batch, previews=show is not None, stepped=stepped):
            images = preview.images
            if show is not None:
                show(images)
        return images

    def stream(
        self,
        pipe: TextToImage,
        batch: range,
        *,
        previews: bool = True,
        stepped: Callable[[], object] | None = None,
    ) -> Iterator[StepPreview]:
        """The images of a batch, with what each step made before them if `previews`."""
        return pipe.generate_batch(
            [self.prompts[image] for image in batch],
            settings=self.settings,
            size=(self.height, self.width),
            seed=self.seed,
            first_index=self.first_index + batch.start,
            previews=previews,
            edits=None if self.edit is None else [self.edit] * len(batch),
            stepped=stepped,
        )


def generate_images(
    pipe: TextToImage,
    plan: ImageSeries,
    out: Path,
    *,
    force: bool = False,
    show: Show | None = None,
) -> list[Path]:
    """Write the one image of a plan to `x.png`, or `NNNNN.png` for each into a folder.

    What an equal command wrote is kept. With `show`, what each step made is shown.

    Raises:
        UsageError: a file is there, made with other settings, and `force` is off.
    """
    single = out.suffix.lower() == ".png"
    count = len(plan.prompts)
    paths = [out] if single else [out / f"{index:05d}.png" for index in range(count)]
    write_images(pipe, [(plan, paths)], force=force, show=show)
    return paths


def write_images(
    pipe: TextToImage,
    plans: Iterable[tuple[ImageSeries, Sequence[Path]]],
    *,
    force: bool = False,
    show: Show | None = None,
) -> None:
    """Write every image of some plans to its file, under one progress bar.

    What an equal command wrote is kept. With `show`, what each step made is shown.

    Raises:
        UsageError: a file is there, made with other settings, and `force` is off.
    """
    todo = []
    for plan, paths in plans:
        for batch in plan.batches():
            texts = plan.texts(pipe, batch)
            files = [paths[index] for index in batch]
            size = (plan.width, plan.height)
            done = [
                _is_done(file, text, size=size, force=force)
                for file, text in zip(files, texts, strict=True)
            ]
            if not all(done):
                todo.append((plan, batch, texts, files))
    steps = sum(plan.batch_steps for plan, *_ in todo)
    with counted_steps(steps, sum(len(batch) for _, batch, *_ in todo)) as stepped:
        for plan, batch, texts, files in todo:
            images = plan.images(pipe, batch, stepped=stepped, show=show)
            for image, text, file in zip(images, texts, files, strict=True):
                save_png(image, file, text)


def generate_sheet(
    pipe: TextToImage,
    plan: ImageSeries,
    out: Path,
    *,
    force: bool = False,
    show: Show | None = None,
) -> list[Path]:
    """Write all images as one contact sheet, whose text holds the record of each.

    With `show`, what each step made is shown.

    Raises:
        UsageError: the file is there, made with other settings, and `force` is off.
    """
    text = plan.sheet_text(pipe)
    if not _is_done(out, text, force=force):
        batches = list(plan.batches())
        with counted_steps(len(batches) * plan.batch_steps, len(plan.prompts)) as stepped:
            made = [plan.images(pipe, batch, stepped=stepped, show=show) for batch in batches]
        images = [image for batch in made for image in batch]
        save_png(grid(images, columns=math.ceil(math.sqrt(len(images)))), out, text)
    return [out]


def generate_film(
    pipe: TextToImage, plan: ImageSeries, out: Path, *, force: bool = False
) -> list[Path]:
    """Write the unmasking of all images, in one batch.

    As `x.gif`: animated, the images side by side. As `x.png`: a contact sheet, a row an image, a
    column a step, the last one with the residual.

    Raises:
        UsageError: the file is there, made with other settings, and `force` is off.
    """
    animated = out.suffix.lower() == ".gif"
    text = plan.sheet_text(pipe, film=not animated)
    comment = b""
    if plan.metadata:
        comment = hashlib.sha256(text[RECORD].encode()).hexdigest().encode()
    if animated and not force and out.exists():
        if not comment or _gif_comment(out) != comment:
            raise UsageError(f"{out} exists and was made otherwise; use --force or another name")
        return [out]
    if not animated and _is_done(out, text, force=force):
        return [out]
    count = len(plan.prompts)
    with counted_steps(plan.batch_steps, count) as stepped:
        previews = list(plan.stream(pipe, range(count), stepped=stepped))
    film = Film(previews, pipe.model.generator.mask_id)
    if animated:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, film.gif(comment=comment))
    else:
        save_png(film.sheet(), out, text)
    return [out]


def replay_file(
    pipe: TextToImage,
    record: Record,
    out: Path,
    *,
    image: Image.Image | None = None,
    force: bool = False,
    metadata: bool = True,
    xmp: bool = True,
) -> list[Path]:
    """Make the image of a record again: the same batch size, row and threads.

    It is drawn whatever is there: a file that says the same may have other pixels. One that has
    the same is kept. Without `metadata` the file says nothing of itself; without `xmp` it has no
    XMP packet, as files of release 0.1.0.

    Raises:
        CheckpointError: it was made with other weights.
        UsageError: it is an edit and `image` is not the image that was edited; or the file is
            there, made with other settings or with other pixels, and `force` is off.
    """
    plan = replay_series(pipe, record, image)
    text = record.text() if metadata else {}
    if not xmp:
        text.pop(XMP, None)
    there = out.exists() and not force
    if there and not _says(out, text):
        raise _made_otherwise(out)
    torch.set_num_threads(record.threads)
    with counted_steps(plan.batch_steps, 1) as stepped:
        image = plan.images(pipe, range(record.batch_size), stepped=stepped)[record.row]
    if not there:
        save_png(image, out, text)
    elif not _same_pixels(open_image(out), image):
        raise UsageError(f"{out} has other pixels than the record makes here; --force replaces it")
    return [out]


def replay_series(pipe: TextToImage, record: Record, image: Image.Image | None) -> ImageSeries:
    """The batch that the image of a record came from; `image` is what was edited, if it was.

    Raises:
        CheckpointError: it was made with other weights.
        UsageError: it was made in another precision, or it is an edit and `image` is not the image
            that was edited.
    """
    if record.weights != pipe.sha256:
        raise CheckpointError(
            f"the image was made with weights {record.weights}, these are {pipe.sha256}; name "
            f"the right ones with --ckpt{holder(record.weights)}"
        )
    if record.precision is not pipe.precision:
        raise UsageError(
            f"the image was made in {record.precision.value}, this model runs in "
            f"{pipe.precision.value}; load it with precision {record.precision.value}"
        )
    edit = None
    if record.edit is not None:
        if image is None:
            raise UsageError(
                "this is an edit, and a PNG does not hold the image it was made from: name that "
                f"with --image (its RGB pixels have SHA-256 {record.edit.image_sha256})"
            )
        edit = record.edit.edit(image)
    # The rest of the batch has the same prompt: a row's value does not depend on its content.
    return ImageSeries(
        prompts=[record.prompt] * record.batch_size,
        verdicts=[record.safety] * record.batch_size,
        seed=record.seed,
        height=record.height,
        width=record.width,
        settings=record.settings,
        batch_size=record.batch_size,
        first_index=record.index - record.row,
        edit=edit,
    )


def _is_done(
    path: Path, text: dict[str, str], *, force: bool, size: tuple[int, int] | None = None
) -> bool:
    """Whether an equal command wrote this file; of an image, with its `size` (width, height).

    Raises:
        UsageError: something else is there and `force` is off.
    """
    if force or not path.exists():
        return False
    # Without a text nothing tells that it is the same.
    if not text or not _says(path, text) or size not in (None, _size(path)):
        raise _made_otherwise(path)
    return True


def _says(path: Path, text: dict[str, str]) -> bool:
    """Whether a file is a PNG with this text; without any, if there is none."""
    try:
        found = read_png_text(path)
    except ImageError:
        return False
    # The record decides: images of release 0.1.0 have no XMP, and some have neither.
    return found | {XMP: ""} == text | {XMP: ""} if text else not found


def _made_otherwise(path: Path) -> UsageError:
    return UsageError(f"{path} exists and was made otherwise; use --force or another --out")


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path, formats=("PNG",)) as image:
        return image.size


def _same_pixels(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and one.tobytes() == other.tobytes()


def _gif_comment(path: Path) -> bytes | None:
    try:
        with Image.open(path, formats=("GIF",)) as image:
            return image.info.get("comment")
    except OSError:
        return None

"""Files to pixels and back.

Reading is safe by default: only known formats are opened, whatever the file is called; the header
is checked against a pixel cap before anything is decoded; EXIF orientation is applied.
Tensors are (3, H, W) fp32 in [-1, 1], which is (x / 255 - 0.5) / 0.5.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import BinaryIO, assert_never

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from dcht.errors import UsageError
from dcht.files import open_regular, write_atomic
from dcht.flatten import flatten

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""What is opened; of several frames or pages the first is the image."""
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
)  # fmt: skip
UNREAD_SUFFIXES = (".heic", ".heif", ".jxl", ".jp2", ".psd", ".tga")
"""Images for certain, of a format that is not opened: said rather than left out."""
MAX_PIXELS = 64_000_000
"""Largest image that is opened or made of one: 8000 x 8000. A larger header is refused as a
decompression bomb."""


LABEL_HEIGHT = 18
"""Pixels of a line of text on a contact sheet."""


class ImageError(UsageError):
    """A file that is not an image this package opens; the message is the reason alone."""


def list_images(folder: str | Path) -> list[Path]:
    """Every file below `folder` with an image's suffix, sorted by its path; there may be none.

    Raises:
        UsageError: not a folder, or one with images of none but formats that are not read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder of images")
    files = [path for path in folder.rglob("*") if not path.name.startswith(".")]
    found = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not found and (foreign := unread_formats(path.name for path in files)):
        raise UsageError(f"{folder} holds no images that can be used: {foreign}")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def unread_formats(names: Iterable[str]) -> str:
    """Which formats among these names are not read, as half a sentence; nothing if none."""
    suffixes = {PurePosixPath(name).suffix.lower() for name in names} & set(UNREAD_SUFFIXES)
    if not suffixes:
        return ""
    verb = "is" if len(suffixes) == 1 else "are"
    return f"{', '.join(sorted(suffixes))} {verb} not read; convert to one of {', '.join(FORMATS)}"


def open_image(file: str | Path | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open, check and decode an image as RGB, upright; transparency is put on white.

    Raises:
        ImageError: unknown format, damaged or truncated data, more than `max_pixels` pixels, or a
            mode without a range (see `flatten`).
    """
    with _opened(file, FORMATS, max_pixels) as opened:
        return flatten(opened)


@contextmanager
def _opened(
    file: str | Path | BinaryIO, formats: tuple[str, ...], max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """An image of one of some formats, not above the cap; whatever fails is an ImageError."""
    try:
        with ExitStack() as held:
            if isinstance(file, (str, Path)):
                file = held.enter_context(open_regular(file))
            # Pillow's own warning about bombs is silenced because the cap is stricter.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = held.enter_context(Image.open(file, formats=formats))
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"{image.width} x {image.height} is {image.width * image.height:,} pixels; "
                    f"the cap is {max_pixels:,}"
                )
            yield image
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"not a {', '.join(formats)} image") from None
    except Image.DecompressionBombError as error:
        raise ImageError(str(error)) from None
    except ImageError:
        raise
    except UsageError as error:  # of `flatten`: it is sound, and of no use
        raise ImageError(str(error)) from None
    except OSError as error:
        # The system says why; Pillow, that the data is damaged.
        raise ImageError(error.strerror or f"damaged: {error}") from None
    except Exception as error:
        # Decoders of hostile data raise what they ran into: Pillow promises no exception's kind.
        raise ImageError(f"damaged: {error or type(error).__name__}") from None


Fitting = Callable[[Image.Image, tuple[int, int]], Image.Image]
"""Brings an RGB image to a size (width, height)."""


class Fit(Enum):
    """What is done to an image of another shape; the value is how a store records it."""

    crop = "cover by bicubic, crop centre"
    pad = "contain by bicubic, pad with white around"
    resize = "stretch by bicubic"


def resize(
    image: Image.Image,
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """An image at another size (width, height); every image from outside is resized here.

    Raises:
        ImageError: it, or what Pillow makes on the way, would have more than `MAX_PIXELS` pixels:
            a few bytes can be an image of 40000 x 2.
    """
    # Pillow first brings the rows to the new width.
    if size[0] * max(size[1], image.height) > MAX_PIXELS:
        raise ImageError(
            f"{image.width} x {image.height} is too narrow to be made {size[0]} x {size[1]}: "
            f"the cap is {MAX_PIXELS:,} pixels"
        )
    return image.resize(size, resample)


def fit_image(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """Bring an RGB image to `size` (width, height), bicubic and antialiased.

    Raises:
        ImageError: see `resize`.
    """
    match fit:
        case Fit.crop:
            return resize_crop(image, size)
        case Fit.resize:
            return resize(image, size)
        case Fit.pad:
            return _pad(image, size)
        case _:
            assert_never(fit)


def _pad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole image, as large as fits, in the middle of white."""
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    padded = Image.new("RGB", size, "white")
    corner = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    padded.paste(resize(image, inner), corner)
    return padded


def resize_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize (bicubic, antialiased) to just cover `size` (width, height); crop the center.

    Raises:
        ImageError: so narrow an image that it would have to grow beyond `MAX_PIXELS`.
    """
    covered, (left, top) = covering(image.size, size)
    if covered != image.size:
        image = resize(image, covered)
    return image.crop((left, top, left + size[0], top + size[1]))


def covering(sides: tuple[int, int], size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """How `resize_crop` brings an image of these sides to `size`, all (width, height).

    Returns:
        What it is resized to, and the corner (left, top) of what is cropped from that.
    """
    (width, height), scale = size, max(size[0] / sides[0], size[1] / sides[1])
    covered = (max(width, round(sides[0] * scale)), max(height, round(sides[1] * scale)))
    return covered, ((covered[0] - width) // 2, (covered[1] - height) // 2)


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as (3, H, W) fp32 in [-1, 1]."""
    return scale(to_bytes(image))


def to_bytes(image: Image.Image) -> Tensor:
    """An RGB image as (3, H, W) uint8."""
    return rearrange(torch.from_numpy(np.array(image.convert("RGB"))), "h w c -> c h w")


def scale(pixels: Tensor) -> Tensor:
    """uint8 as fp32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_pil(pixels: Tensor, *, truncate: bool = False) -> Image.Image:
    """(3, H, W) in [-1, 1] as an RGB image: clamped, then rounded to 8 bits, or cut off there.

    Raises:
        UsageError: pixels that are NaN or infinite.
    """
    pixels = pixels.detach().float().cpu()
    require_finite(pixels)
    if truncate:
        # In this order of operations, which the published release has: a floor sees last bits.
        scaled = (pixels * 0.5 + 0.5).clamp(0, 1) * 255
    else:
        scaled = ((pixels + 1) * 127.5).clamp(0, 255).round()
    scaled = rearrange(scaled.to(torch.uint8), "c h w -> h w c")
    return Image.fromarray(scaled.contiguous().numpy())


def require_finite(pixels: Tensor) -> None:
    """Stop what would become an image of NaN, which 8 bits show as if it were one.

    Raises:
        UsageError: pixels that are NaN or infinite.
    """
    if not pixels.isfinite().all():
        raise UsageError(
            "an image came out as NaN or infinity, not as pixels about [-1, 1]; "
            "if the model runs in fp16, use bf16 or fp32"
        )


def grid(
    images: Sequence[Image.Image], columns: int, *, gap: int = 4, labels: Sequence[str] = ()
) -> Image.Image:
    """A contact sheet of images of one size, row by row, on white.

    Args:
        images: at least one.
        columns: images a row.
        gap: pixels between images.
        labels: a line above each column; or above each image, where there are as many as images.
            What is wider than an image is cut.
    """
    width, height = images[0].size
    rows = -(-len(images) // columns)
    labeled = rows if len(labels) > columns else min(len(labels), 1)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap + labeled * LABEL_HEIGHT)
    sheet = Image.new("RGB", size, "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        left, top = column * (width + gap), row * (height + gap)
        if index < len(labels):
            line = Image.new("RGB", (width, LABEL_HEIGHT), "white")
            text = labels[index].encode("ascii", "replace").decode()  # all that Pillow's font has
            ImageDraw.Draw(line).text((1, 1), text, fill="black", font_size=LABEL_HEIGHT - 6)
            sheet.paste(line, (left, top + min(row, labeled) * LABEL_HEIGHT))
        sheet.paste(image, (left, top + min(row + 1, labeled) * LABEL_HEIGHT))
    return sheet


def save_png(image: Image.Image, path: str | Path, text: dict[str, str] | None = None) -> None:
    """Write a PNG whole or not at all, with `text` as iTXt chunks. It holds no time."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    write_atomic(path, buffer.getvalue())


def read_png_text(path: str | Path) -> dict[str, str]:
    """The text chunks of a PNG.

    Raises:
        ImageError: not a PNG, damaged, or more than `MAX_PIXELS` pixels.
    """
    try:
        with _opened(path, ("PNG",)) as image:
            image.load()
            return {key: str(value) for key, value in image.text.items()}  # type: ignore[attr-defined]
    except ImageError as error:
        raise ImageError(f"{path} is not a PNG that can be read: {error}") from None

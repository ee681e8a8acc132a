"""Images as a tokenizer gives them back: the work behind `dcht reconstruct`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dcht.images import Fit, grid, to_pil
from dcht.inputs import list_inputs
from dcht.picture_folder import PictureFolder
from dcht.reader import Reader, split
from dcht.tokenizer import Tokenizer

ERROR_GAIN = 5
"""How much the error image of `compare` is amplified."""


class Reconstructed(NamedTuple):
    """How many pictures there are now, and what could not be read."""

    written: int
    errors: list[dict[str, str]]


@torch.inference_mode()
def reconstruct_images(
    tokenizer: Tokenizer,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    size: tuple[int, int],
    fit: Fit = Fit.crop,
    path: str = "hybrid",
    tile: int | None = None,
    batch_size: int = 8,
    force: bool = False,
    strict: bool = False,
) -> Reconstructed:
    """Write each image of some sources (see `list_inputs`) as the tokenizer gives it back, as PNG.

    `path` is `hybrid`, `discrete`, or `compare`: a strip of input, discrete, hybrid and 5 x error.
    With `tile`, by tiles of that side in pixels: the same pictures in less memory.
    Pictures that an earlier run of the same settings made are kept.

    Raises:
        UsageError: no images, or `out` holds pictures made with other settings.
    """
    entries = list_inputs(sources)
    settings = {"tokenizer": tokenizer.sha256, "size": list(size), "fit": fit.value, "path": path}
    folder = PictureFolder(out, settings, force=force)
    parts = [
        part
        for part in split(entries, batch_size)
        if not folder.has([entry.name for entry in part])
    ]
    device = next(tokenizer.parameters()).device
    errors: list[dict[str, str]] = []
    reader = Reader(size, fit=fit, strict=strict)
    with tqdm(total=sum(map(len, parts)), unit="img", desc="reconstruct", disable=None) as progress:
        for batch in reader.batches(parts):
            errors += batch.errors
            pictures = (
                _pictures(tokenizer, batch.images.to(device), path, tile) if batch.rows else []
            )
            for row, picture in zip(batch.rows, pictures, strict=True):
                folder.save(row["file"], picture)
            progress.update(len(batch.rows) + len(batch.errors))
    errors = folder.finish(errors)
    return Reconstructed(len(entries) - len(errors), errors)


def _pictures(
    tokenizer: Tokenizer, images: Tensor, path: str, tile: int | None
) -> list[Image.Image]:
    if path != "compare":
        outputs = tokenizer.reconstruct(images, path, tile=tile)  # type: ignore[arg-type]
        return [to_pil(pixels) for pixels in outputs]
    return [
        grid([to_pil(pixels) for pixels in strip], columns=len(strip))
        for strip in compare(tokenizer, images, tile=tile)
    ]


def compare(tokenizer: Tokenizer, images: Tensor, *, tile: int | None = None) -> list[list[Tensor]]:
    """For each image (3, H, W): itself, the discrete path, the hybrid path, and 5 x error."""
    discrete = tokenizer.reconstruct(images, "discrete", tile=tile)
    hybrid = tokenizer.reconstruct(images, "hybrid", tile=tile)
    error = (hybrid.clamp(-1, 1) - images).abs() * ERROR_GAIN - 1
    return [list(strip) for strip in zip(images, discrete, hybrid, error, strict=True)]

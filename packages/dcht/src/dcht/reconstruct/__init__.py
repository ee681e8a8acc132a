"""Images as a tokenizer gives them back: the work behind `dcht reconstruct`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dcht.data.entries import Entry, digest_all, refuse_removing
from dcht.data.image_folder import ImageFolder, ImageOrigin
from dcht.data.reader import Reader, split
from dcht.data.sources import list_inputs
from dcht.display.codes import code_map
from dcht.errors import UsageError
from dcht.files import locked
from dcht.images import Fit, ImageError, grid, to_pil
from dcht.reconstruct.show import compare
from dcht.tokenizer import Tokenizer


class Reconstructed(NamedTuple):
    """How many images there are now, and what could not be read."""

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
    follow_links: bool = False,
) -> Reconstructed:
    """Write each image of some sources (see `list_inputs`) as the tokenizer gives it back, as PNG.

    `path` is `hybrid`, `discrete`, `compare` (a strip of input, discrete, hybrid and 5 x error) or
    `codes` (which code is where: `dcht.display.codes.code_map`).
    With `tile`, by tiles of that side in pixels: the same images in less memory.
    Images that an earlier run of the same settings made of the same inputs are kept. What lies in
    `out` is no input, though it be below one.

    Raises:
        UsageError: no images, `out` holds images made with other settings, or another process is
            writing it.
    """
    entries = list_inputs(sources, follow_links=follow_links, out=out)
    settings = {"tokenizer": tokenizer.sha256, "size": list(size), "fit": fit.value, "path": path}
    settings |= tokenizer.precision.noted()
    with locked(out):
        if force:
            refuse_removing(entries, Path(out).rglob("*.png"))
        folder = ImageFolder(out, settings, force=force)
        made_of = {} if folder.fresh else _sources(entries)
        parts = [
            part
            for part in split(entries, batch_size)
            if folder.fresh
            or not folder.has((made_of[entry.name] for entry in part), strict=strict)
        ]
        device = next(tokenizer.parameters()).device
        errors: list[dict[str, str]] = []
        reader = Reader(size, fit=fit, strict=strict)
        total = sum(map(len, parts))
        with tqdm(total=total, unit="img", desc="reconstruct", disable=None) as progress:
            for part, batch in zip(parts, reader.batches(parts), strict=True):
                read = zip(part, batch.sha256, strict=True)
                made_of |= {
                    entry.name: ImageOrigin(entry.name, _key(digest)) for entry, digest in read
                }
                failed = list(batch.errors)
                images = (
                    _images(tokenizer, batch.images.to(device), path, tile) if batch.rows else []
                )
                for row, image in zip(batch.rows, images, strict=True):
                    try:
                        folder.save(made_of[row["file"]], image)
                    except ImageError as error:
                        if strict:
                            raise UsageError(f"{row['file']}: {error}") from None
                        failed.append({"file": row["file"], "reason": str(error)})
                errors += [row | {"sha256": made_of[row["file"]].sha256} for row in failed]
                progress.update(len(part))
        errors = folder.finish([made_of[entry.name] for entry in entries], errors)
    return Reconstructed(len(entries) - len(errors), errors)


def _sources(entries: Sequence[Entry]) -> dict[str, ImageOrigin]:
    digests = zip(entries, digest_all(entries, beside=False), strict=True)
    return {entry.name: ImageOrigin(entry.name, _key(digest)) for entry, digest in digests}


def _key(digest: bytes) -> str:
    """The part of `Content.sha256()` that is the image's."""
    return digest[:32].hex()


def _images(tokenizer: Tokenizer, images: Tensor, path: str, tile: int | None) -> list[Image.Image]:
    if path == "codes":
        z = tokenizer.encode(images) if tile is None else tokenizer.encode_tiled(images, tile=tile)
        patch = tokenizer.config.downsampling
        return [code_map(indices, patch=patch) for indices in tokenizer.quantize(z).indices]
    if path != "compare":
        outputs = tokenizer.reconstruct(images, path, tile=tile)  # type: ignore[arg-type]
        return [to_pil(pixels) for pixels in outputs]
    return [
        grid([to_pil(pixels) for pixels in strip], columns=len(strip))
        for strip in compare(tokenizer, images, tile=tile)
    ]

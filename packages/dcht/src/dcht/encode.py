"""Folders of images through a tokenizer: the work behind `dcht encode` and `dcht reconstruct`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dcht.checkpoint import write_atomic
from dcht.errors import CheckpointError, UsageError
from dcht.images import (
    ImageError,
    grid,
    list_images,
    open_image,
    resize_crop,
    save_png,
    to_pil,
    to_tensor,
)
from dcht.latents import LatentsWriter, Manifest, Plan
from dcht.tokenizer import Tokenizer

TRANSFORM = "cover by bicubic, crop centre"
READERS = 4
ERROR_GAIN = 5
"""How much the error image of `compare` is amplified."""


class Batch(NamedTuple):
    """Images that could be read, and a row for each that could not."""

    files: list[Path]
    images: Tensor
    errors: list[dict[str, str]]


class Reader:
    """Reads batches of one size in threads (decoding releases the interpreter lock)."""

    def __init__(self, root: Path, size: tuple[int, int], *, strict: bool) -> None:
        self.root, self.size, self.strict = root, size, strict
        self._pool = ThreadPoolExecutor(READERS)

    def batches(self, files: Sequence[Path], batch_size: int) -> Iterator[Batch]:
        """Batches of consecutive files, the next one being read while the last is in use.

        A file that cannot be read leaves its batch smaller, so that boundaries stay where they are.

        Raises:
            UsageError: a file cannot be read and `strict` is on.
        """
        parts = [files[start : start + batch_size] for start in range(0, len(files), batch_size)]
        pending = [self._pool.map(self._read, part) for part in parts[:1]]
        for number, part in enumerate(parts):
            results = list(pending.pop())
            if number + 1 < len(parts):
                pending.append(self._pool.map(self._read, parts[number + 1]))
            good, images, errors = [], [], []
            for path, result in zip(part, results, strict=True):
                if isinstance(result, Tensor):
                    good.append(path)
                    images.append(result)
                else:
                    name = path.relative_to(self.root).as_posix()
                    if self.strict:
                        raise UsageError(f"{name}: {result}")
                    errors.append({"file": name, "reason": str(result)})
            yield Batch(good, torch.stack(images) if images else torch.empty(0), errors)

    def _read(self, path: Path) -> Tensor | ImageError:
        try:
            return to_tensor(resize_crop(open_image(path), self.size))
        except ImageError as error:
            return error


def read_row(path: Path, root: Path) -> dict[str, Any]:
    """What stands beside an image: captions from `.txt` (one a line), fields from `.json`."""
    row: dict[str, Any] = {}
    sidecar = path.with_suffix(".json")
    if sidecar.exists():
        content = json.loads(sidecar.read_text(encoding="utf-8"))
        row |= content if isinstance(content, dict) else {"json": content}
    row |= {"file": path.relative_to(root).as_posix(), "caption": None}
    text = path.with_suffix(".txt")
    if text.exists():
        captions = [line.strip() for line in text.read_text(encoding="utf-8").splitlines()]
        captions = [line for line in captions if line]
        if captions:
            row["caption"] = captions[0]
        if len(captions) > 1:
            row["captions"] = captions
    return row


@torch.inference_mode()
def encode_folder(
    tokenizer: Tokenizer,
    folder: Path,
    out: Path,
    *,
    size: tuple[int, int],
    batch_size: int = 32,
    shard_size: int = 4096,
    force: bool = False,
    strict: bool = False,
) -> Manifest:
    """Encode every image below `folder` into a store of latents (see `dcht.latents`).

    Interrupted work continues shard by shard; a finished store of the same plan is left alone.

    Args:
        tokenizer: in eval mode, with a quantizer and a known hash.
        folder: images, each with an optional `.txt` (captions) and `.json` (fields) beside it.
        out: the store.
        size: (width, height) that every image is resized and cropped to.
        batch_size: images in one pass of the encoder.
        shard_size: input files a shard covers.
        force: replace a store of another plan.
        strict: stop at the first file that cannot be read.

    Raises:
        UsageError: no images, or `out` holds something else.
        CheckpointError: the tokenizer has no quantizer or no hash.
    """
    files = list_images(folder)
    if not files:
        raise UsageError(f"{folder} holds no images (PNG, JPEG, WEBP or BMP)")
    quantizer, config = tokenizer.require_quantizer(), tokenizer.config
    if tokenizer.sha256 is None:
        raise CheckpointError("the tokenizer was never saved; save_pretrained gives it its hash")
    width, height = size
    plan = Plan(
        tokenizer_sha256=tokenizer.sha256,
        width=width,
        height=height,
        latent_height=height // config.downsampling,
        latent_width=width // config.downsampling,
        latent_channels=config.latent_channels,
        codebook_size=quantizer.codebook.shape[0],
        residual_std=config.residual_std,
        transform=TRANSFORM,
        files_sha256=_hash_files(files, folder),
        shard_size=shard_size,
        batch_size=batch_size,
        threads=torch.get_num_threads(),
    )
    writer = LatentsWriter(out, plan, force=force)
    if (finished := writer.finished) is not None:
        return finished
    device = quantizer.codebook.device
    reader = Reader(folder, size, strict=strict)
    shards = [files[start : start + shard_size] for start in range(0, len(files), shard_size)]
    with tqdm(total=len(files), unit="img", desc="encode", disable=None) as progress:
        for number, shard in enumerate(shards):
            if writer.has(number):
                progress.update(len(shard))
                continue
            rows, errors = [], []
            indices = [torch.empty(0, plan.latent_height, plan.latent_width, dtype=torch.long)]
            residual = [torch.empty(0, plan.latent_channels, plan.latent_height, plan.latent_width)]
            for batch in reader.batches(shard, batch_size):
                if batch.files:
                    latents = tokenizer.tokenize(batch.images.to(device))
                    indices.append(latents.indices.cpu())
                    residual.append(latents.residual.cpu())
                rows += [read_row(path, folder) for path in batch.files]
                errors += batch.errors
                progress.update(len(batch.files) + len(batch.errors))
            writer.write(number, rows, errors, torch.cat(indices), torch.cat(residual))
    return writer.finish(len(shards))


def _hash_files(files: list[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()


class Reconstructed(NamedTuple):
    """How many pictures there are now, and what could not be read."""

    written: int
    errors: list[dict[str, str]]


@torch.inference_mode()
def reconstruct_folder(
    tokenizer: Tokenizer,
    source: Path,
    out: Path,
    *,
    size: tuple[int, int],
    path: str = "hybrid",
    batch_size: int = 8,
    force: bool = False,
    strict: bool = False,
) -> Reconstructed:
    """Write each image (a file, or all below a folder) as the tokenizer gives it back, as PNG.

    `path` is `hybrid`, `discrete`, or `compare`: a strip of input, discrete, hybrid and 5 x error.
    Pictures that an earlier run of the same settings made are kept.

    Raises:
        UsageError: no images, or `out` holds pictures made with other settings.
    """
    root = source if source.is_dir() else source.parent
    files = list_images(source) if source.is_dir() else [source]
    if not files:
        raise UsageError(f"{source} holds no images (PNG, JPEG, WEBP or BMP)")
    settings = {"tokenizer": tokenizer.sha256, "size": list(size), "path": path}
    record = out / ".reconstruct.json"
    fresh = force or not record.exists()
    if not fresh and json.loads(record.read_text()) != settings:
        raise UsageError(f"{out} was made with other settings; use --force or another --out")
    if not fresh:
        done = {file for file in files if _target(file, root, out).exists()}
        files = [file for file in files if file not in done]
        written = len(done)
    else:
        if out.exists() and any(out.iterdir()) and not force:
            raise UsageError(f"{out} is not empty; use --force or another --out")
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(record, json.dumps(settings).encode())
        written = 0
    device = next(tokenizer.parameters()).device
    errors: list[dict[str, str]] = []
    reader = Reader(root, size, strict=strict)
    with tqdm(total=len(files), unit="img", desc="reconstruct", disable=None) as progress:
        for batch in reader.batches(files, batch_size):
            errors += batch.errors
            if batch.files:
                pictures = _pictures(tokenizer, batch.images.to(device), path)
                for file, picture in zip(batch.files, pictures, strict=True):
                    save_png(picture, _target(file, root, out))
                written += len(pictures)
            progress.update(len(batch.files) + len(batch.errors))
    if errors:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in errors)
        write_atomic(out / "errors.jsonl", lines.encode())
    return Reconstructed(written, errors)


def _target(file: Path, root: Path, out: Path) -> Path:
    # The whole name is kept (photo.jpg.png), or photo.jpg and photo.png would be one picture.
    return out / f"{file.relative_to(root).as_posix()}.png"


def _pictures(tokenizer: Tokenizer, images: Tensor, path: str) -> list[Image.Image]:
    if path != "compare":
        return [to_pil(pixels) for pixels in tokenizer.reconstruct(images, path)]  # type: ignore[arg-type]
    return [
        grid([to_pil(pixels) for pixels in strip], columns=len(strip))
        for strip in compare(tokenizer, images)
    ]


def compare(tokenizer: Tokenizer, images: Tensor) -> list[list[Tensor]]:
    """For each image (3, H, W): itself, the discrete path, the hybrid path, and 5 x error."""
    discrete = tokenizer.reconstruct(images, "discrete")
    hybrid = tokenizer.reconstruct(images, "hybrid")
    error = (hybrid.clamp(-1, 1) - images).abs() * ERROR_GAIN - 1
    return [list(strip) for strip in zip(images, discrete, hybrid, error, strict=True)]

"""A store of latents back to images: the work behind `dcht decode`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dcht.data.image_folder import ImageFolder, ImageOrigin
from dcht.errors import UsageError
from dcht.files import locked
from dcht.images import ImageError, to_pil
from dcht.latents import LatentsStore
from dcht.latents.maker import require_maker
from dcht.tokenizer import Tokenizer


@torch.inference_mode()
def decode_store(
    tokenizer: Tokenizer,
    store: LatentsStore,
    out: str | Path,
    *,
    path: str = "hybrid",
    limit: int | None = None,
    batch_size: int = 8,
    force: bool = False,
) -> int:
    """Write the images of a store as PNG; return how many there are now.

    Images that an earlier run of the same settings made of the same latents are kept. One whose
    name no file can have is listed in `errors.jsonl`.

    Args:
        tokenizer: the one that made the store, or one that differs in its decoder alone.
        store: what to decode.
        out: folder for the images, named after what they were encoded from.
        path: `hybrid`, or `discrete`: without the residual, which continuous latents have not.
        limit: only the first so many.
        batch_size: images in one pass of the decoder.
        force: write over what `out` holds.

    Raises:
        CheckpointError: another tokenizer made the store, or it is damaged.
        UsageError: `out` holds something else, or another process is writing it.
    """
    require_maker(tokenizer, store.plan, store.folder, remedy="name that one with --ckpt")
    if path not in ("hybrid", "discrete"):
        raise UsageError(f"path {path!r} is not known; use hybrid or discrete")
    if path == "discrete" and store.continuous:
        raise UsageError(f"{store.folder} holds continuous latents: it has no path discrete")
    device = next(tokenizer.parameters()).device
    count = len(store) if limit is None else min(limit, len(store))
    sources: list[ImageOrigin] = []
    errors: list[dict[str, str]] = []
    with (
        locked(out),
        tqdm(total=count, unit="img", desc="decode", disable=None) as progress,
    ):
        settings = {"tokenizer": tokenizer.sha256, "path": path, **tokenizer.precision.noted()}
        folder = ImageFolder(out, settings, force=force)
        for start in range(0, count, batch_size):
            numbers = range(start, min(start + batch_size, count))
            parts = [_read(store, number) for number in numbers]
            some = [
                ImageOrigin(_name(store, number), _sha256(*latents))
                for number, latents in zip(numbers, parts, strict=True)
            ]
            sources += some
            if not folder.has(some):
                stacked = [torch.stack(part).to(device) for part in zip(*parts, strict=True)]
                latent = stacked[-1]
                if not store.continuous:
                    z_q = tokenizer.lookup(stacked[0])
                    latent = z_q if path == "discrete" else z_q + latent
                for source, image in zip(some, tokenizer.decode(latent), strict=True):
                    try:
                        folder.save(source, to_pil(image))
                    except ImageError as error:
                        row = {"file": source.name, "reason": str(error)}
                        errors.append(row | {"sha256": source.sha256})
            progress.update(len(some))
        errors = folder.finish(sources, errors)
    return count - len(errors)


def _read(store: LatentsStore, number: int) -> tuple[Tensor, ...]:
    return (store.read_latent(number),) if store.continuous else store.read(number)


def _name(store: LatentsStore, number: int) -> str:
    return store.row(number)["file"] + (".flip" if store.is_flipped(number) else "")


def _sha256(*latents: Tensor) -> str:
    digest = hashlib.sha256()
    for values in latents:
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()

"""A store of latents back to pictures: the work behind `dcht decode`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dcht.errors import CheckpointError, UsageError
from dcht.images import to_pil
from dcht.latents import LatentsStore
from dcht.picture_folder import PictureFolder
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

    Pictures that an earlier run of the same settings made are kept.

    Args:
        tokenizer: the one that made the store.
        store: what to decode.
        out: folder for the pictures, named after what they were encoded from.
        path: `hybrid`, or `discrete`: without the residual.
        limit: only the first so many.
        batch_size: images in one pass of the decoder.
        force: write over what `out` holds.

    Raises:
        CheckpointError: another tokenizer made the store.
        UsageError: `out` holds something else.
    """
    made_by = store.plan.tokenizer_sha256
    if tokenizer.sha256 != made_by:
        raise CheckpointError(
            f"{store.folder} was encoded by tokenizer {made_by}, not by {tokenizer.sha256}; "
            "name that one with --ckpt"
        )
    if path not in ("hybrid", "discrete"):
        raise UsageError(f"path {path!r} is not known; use hybrid or discrete")
    folder = PictureFolder(out, {"tokenizer": made_by, "path": path}, force=force)
    device = next(tokenizer.parameters()).device
    count = len(store) if limit is None else min(limit, len(store))
    with tqdm(total=count, unit="img", desc="decode", disable=None) as progress:
        for start in range(0, count, batch_size):
            numbers = range(start, min(start + batch_size, count))
            names = [_name(store.row(number)) for number in numbers]
            if not folder.has(names):
                parts = zip(*(store.read(number) for number in numbers), strict=True)
                indices, residual = (torch.stack(part).to(device) for part in parts)
                z_q = tokenizer.lookup(indices)
                pixels = tokenizer.decode(z_q if path == "discrete" else z_q + residual)
                for name, image in zip(names, pixels, strict=True):
                    folder.save(name, to_pil(image))
            progress.update(len(names))
    return count


def _name(row: dict[str, Any]) -> str:
    return row["file"] + (".flip" if row.get("flip") else "")

"""Published autoencoders (DC-AE, the DC-HT release) as tokenizers: the work of `dcht convert`.

Sources are read, never redistributed: the release's weights are non-commercial. A file that is a
pickle is opened as plain tensors alone (`weights_only`; `tests/test_pickles.py` lists all).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from dcht.checkpoint import (
    CONFIG,
    WEIGHTS,
    as_published,
    build_on_meta,
    load_strict,
    locate,
    read_safetensors,
)
from dcht.config import VARIANTS
from dcht.convert.keys import convert_tensors
from dcht.convert.latent_norm import LATENT_NORM, fold_latent_norm, mean_latent_norm
from dcht.convert.layout import check_variant, find_family, find_layout
from dcht.errors import CheckpointError, UsageError, printable
from dcht.files import (
    file_sha256,
    open_regular,
    read_json,
    remove_partials,
    require_unused,
    write_atomic,
)
from dcht.images import ImageError, list_images, open_image, resize_crop, to_tensor
from dcht.modules.quantizer import VectorQuantizer
from dcht.tokenizer import Tokenizer

SAFE_FILES = (WEIGHTS, "diffusion_pytorch_model.safetensors", "weights.safetensors")
PICKLES = ("pytorch_model.bin", "diffusion_pytorch_model.bin", "model.pt")
RECORD = "conversion.json"
"""Beside the checkpoint: where it came from, and the norm that was folded in."""
CALIBRATION_SIDE = 256


class PublishedFiles(NamedTuple):
    """A published checkpoint: its tensors, and the `config.json` beside them (empty if none)."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any]


def read_source(name: str | Path) -> PublishedFiles:
    """Read a published checkpoint: a weights file, a folder that holds one, or a Hub id.

    Raises:
        CheckpointError: nothing there, or what is there cannot be read.
    """
    path = find_weights(name)
    try:
        settings = read_json(path.with_name(CONFIG))
    except FileNotFoundError:
        settings = {}
    except UsageError as error:
        raise CheckpointError(str(error)) from None
    return PublishedFiles(_read_tensors(path), settings)


def source_sha256(name: str | Path) -> str:
    """A hash of what `read_source` reads.

    Raises:
        CheckpointError: nothing there, or what is there cannot be read.
    """
    path = find_weights(name)
    config = path.with_name(CONFIG)
    try:
        parts = [file_sha256(file) for file in (path, config) if file.exists()]
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from None
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def find_weights(name: str | Path) -> Path:
    """The file of weights that a name stands for: itself, one in that folder, or from the Hub.

    Raises:
        CheckpointError: there is none.
    """
    if Path(name).is_file():
        return Path(name)
    # Pickles are fetched only from where there is nothing else.
    for files in (SAFE_FILES, PICKLES):
        folder = locate(name, files=(CONFIG, *files))
        for file in files:
            if (folder / file).is_file():
                return folder / file
    raise CheckpointError(f"{name} has no weights; expected one of {', '.join(SAFE_FILES)}")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        with open_regular(path) as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception:
        # What torch says of junk depends on its first bytes, and advises weights_only=False: to
        # run whatever is in the file.
        raise CheckpointError(
            f"{path} is no file of plain tensors; expected safetensors, or what torch.save wrote "
            "of a state dict"
        ) from None
    tensors = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not all(
        isinstance(key, str) and torch.is_tensor(value) for key, value in tensors.items()
    ):
        raise CheckpointError(f"{path} holds no state dict (names and tensors)")
    return tensors


def convert(
    source: PublishedFiles,
    *,
    variant: str | None = None,
    codebook_size: int | None = None,
    latent_norm: float = LATENT_NORM,
    images: Path | None = None,
) -> tuple[Tokenizer, float | None]:
    """A published checkpoint as a tokenizer, and the norm that was folded into its decoder.

    A DC-AE becomes a continuous autoencoder that reconstructs as it did; with `codebook_size`, the
    start of a hybrid tokenizer: latents of unit length, their typical length folded into the
    decoder, and random codes (always the same). The DC-HT release becomes a complete tokenizer.

    Args:
        source: what `read_source` gave.
        variant: what it must be, one of `dcht.config.VARIANTS`; None: what its settings say.
        codebook_size: number of random codes for a DC-AE.
        latent_norm: typical length of its latents.
        images: a folder over which that length is measured instead.

    Raises:
        UsageError: a codebook for a source that has one, or a folder without images.
        CheckpointError: another variant, or keys that do not fit.
    """
    tensors, settings = source
    family = find_family(tensors)
    with as_published("the layout"):
        config = find_layout(tensors, settings, family)
    if variant is None and "network" not in settings:
        variant = _named_variant(settings, released=config.codebook_size is not None)
    if variant is not None:
        check_variant(config, variant)
    if config.codebook_size is not None and (codebook_size or images):
        raise UsageError("the DC-HT release has its codebook and its norm; leave both options out")
    converted = convert_tensors(tensors, config, family)
    tokenizer = build_on_meta(lambda: Tokenizer(config), "converted")
    load_strict(tokenizer, converted, "converted")
    tokenizer.eval()
    if codebook_size is None:
        return tokenizer, None
    if images is not None:
        latent_norm = mean_latent_norm(tokenizer.encoder, _batches(images))
    fold_latent_norm(tokenizer.decoder, latent_norm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer.quantizer = VectorQuantizer(
            codebook_size, config.latent_channels, commitment_weight=config.commitment_weight
        )
    tokenizer.config = replace(config, codebook_size=codebook_size)
    return tokenizer, latent_norm


def _named_variant(settings: dict[str, Any], *, released: bool) -> str | None:
    name = settings.get("model_name")
    if released and name is not None:
        return "dc-ht"
    return next((v for v in VARIANTS if str(name).endswith(f"f32c32-{v}")), None)


def _batches(folder: Path) -> Iterator[Tensor]:
    files = list_images(folder)
    read = 0
    for path in tqdm(files, unit="img", desc="calibrate", disable=None):
        try:
            image = resize_crop(open_image(path), (CALIBRATION_SIDE, CALIBRATION_SIDE))
        except ImageError as error:
            tqdm.write(f"skipped {printable(path.name)}: {printable(error)}", file=sys.stderr)
            continue
        read += 1
        yield to_tensor(image)[None]
    if not read:
        raise UsageError(f"{folder} holds no image that can be read; --calibrate needs some")


def write_converted(
    name: str,
    out: Path,
    *,
    variant: str | None = None,
    codebook_size: int | None = None,
    latent_norm: float = LATENT_NORM,
    images: Path | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """`convert` from `name` to a checkpoint folder; returns its record.

    Finished work of the same settings is left alone.

    Raises:
        UsageError: `out` holds something else, or what `convert` raises.
        CheckpointError: what `read_source` and `convert` raise.
    """
    request = {
        "source": name,
        "source_sha256": source_sha256(name),
        "variant": variant,
        "codebook": codebook_size,
        "latent_norm": None if codebook_size is None else latent_norm,
        "calibrate": None if images is None else str(images),
    }
    record = out / RECORD
    earlier = read_json(record) if record.exists() and not force else {}
    begun = earlier.get("request") == request
    if begun and "sha256" in earlier and (out / WEIGHTS).exists():
        return earlier
    require_unused(out, force=force or begun)
    tokenizer, folded = convert(
        read_source(name),
        variant=variant,
        codebook_size=codebook_size,
        latent_norm=latent_norm,
        images=images,
    )
    result = {"request": request, "folded_latent_norm": folded}
    out.mkdir(parents=True, exist_ok=True)
    remove_partials(out)
    # Before the weights: what is killed between the two is known to be this conversion.
    write_atomic(record, json.dumps({"request": request}, indent=1).encode() + b"\n")
    result["sha256"] = tokenizer.save_pretrained(out)
    write_atomic(record, json.dumps(result, indent=1).encode() + b"\n")
    return result

"""Published autoencoders (DC-AE, the DC-HT release) as tokenizers: the work of `dcht convert`.

Sources are read, never redistributed: the release's weights are non-commercial. This is the one
place where a pickle is opened, and only as plain tensors (`weights_only`).
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from dcht.checkpoint import CONFIG, WEIGHTS, load_strict, locate
from dcht.config import VARIANTS
from dcht.convert import convert_tensors
from dcht.errors import CheckpointError, UsageError, printable
from dcht.files import require_unused, write_atomic
from dcht.images import ImageError, list_images, open_image, resize_crop, to_tensor
from dcht.latent_norm import LATENT_NORM, fold_latent_norm, mean_latent_norm
from dcht.layout import check_variant, find_family, find_layout
from dcht.quantizer import VectorQuantizer
from dcht.tokenizer import Tokenizer

SAFE_FILES = (WEIGHTS, "diffusion_pytorch_model.safetensors", "weights.safetensors")
PICKLES = ("pytorch_model.bin", "diffusion_pytorch_model.bin", "model.pt")
RECORD = "conversion.json"
"""Beside the checkpoint: where it came from, and the norm that was folded in."""
CALIBRATION_SIDE = 256


class Source(NamedTuple):
    """A published checkpoint: its tensors, and the `config.json` beside them (empty if none)."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any]


def read_source(name: str | Path) -> Source:
    """Read a published checkpoint: a weights file, a folder that holds one, or a Hub id.

    Raises:
        CheckpointError: nothing there, or what is there cannot be read.
    """
    path = Path(name)
    if not path.is_file():
        path = _weights_file(name)
    config = path.with_name(CONFIG)
    try:
        settings = json.loads(config.read_text()) if config.exists() else {}
    except ValueError as error:
        raise CheckpointError(f"{config} is not JSON: {error}") from None
    return Source(_read_tensors(path), settings)


def _weights_file(name: str | Path) -> Path:
    # Pickles are fetched only from where there is nothing else.
    for files in (SAFE_FILES, PICKLES):
        folder = locate(name, files=(CONFIG, *files))
        for file in files:
            if (folder / file).is_file():
                return folder / file
    raise CheckpointError(f"{name} has no weights; expected one of {', '.join(SAFE_FILES)}")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "empty"
        raise CheckpointError(f"{path} is no file of plain tensors: {reason}") from None
    tensors = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not all(map(torch.is_tensor, tensors.values())):
        raise CheckpointError(f"{path} holds no state dict (names and tensors)")
    return tensors


def convert(
    source: Source,
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
    config = find_layout(tensors, settings, family)
    if variant is None and "network" not in settings:
        variant = _named_variant(settings, released=config.codebook_size is not None)
    if variant is not None:
        check_variant(config, variant)
    if config.codebook_size is not None and (codebook_size or images):
        raise UsageError("the DC-HT release has its codebook and its norm; leave both options out")
    converted = convert_tensors(tensors, config, family)
    with torch.device("meta"):
        tokenizer = Tokenizer(config)
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
        "variant": variant,
        "codebook": codebook_size,
        "latent_norm": None if codebook_size is None else latent_norm,
        "calibrate": None if images is None else str(images),
    }
    record = out / RECORD
    if (out / WEIGHTS).exists() and record.exists() and not force:
        earlier = json.loads(record.read_text())
        if earlier["request"] == request:
            return earlier
    require_unused(out, force=force)
    tokenizer, folded = convert(
        read_source(name),
        variant=variant,
        codebook_size=codebook_size,
        latent_norm=latent_norm,
        images=images,
    )
    result = {"request": request, "folded_latent_norm": folded}
    out.mkdir(parents=True, exist_ok=True)
    result["sha256"] = tokenizer.save_pretrained(out)
    write_atomic(record, json.dumps(result, indent=1).encode() + b"\n")
    return result

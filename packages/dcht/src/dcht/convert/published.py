"""Published autoencoders (DC-AE, the DC-HT release) as tokenizers: the work of `dcht convert`.

Sources (`dcht.convert.sources`) are read, never redistributed: the release's weights are
non-commercial.
"""

from __future__ import annotations

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
    WEIGHTS,
    as_published,
    build_on_meta,
    from_dict,
    load_strict,
    read_config,
)
from dcht.config import VARIANTS, TokenizerConfig
from dcht.convert.keys import convert_tensors
from dcht.convert.latent_norm import LATENT_NORM, fold_latent_norm, mean_latent_norm
from dcht.convert.layout import check_variant, find_family, find_layout
from dcht.convert.sources import PublishedFiles, read_source, source_sha256
from dcht.data.contents import contents_sha256
from dcht.data.entries import file_part
from dcht.errors import CheckpointError, UsageError, printable
from dcht.files import read_json, remove_partials, require_unused, write_atomic
from dcht.images import ImageError, list_images, open_image, resize_crop, to_tensor
from dcht.modules.quantizer import VectorQuantizer
from dcht.ranges import shown
from dcht.tokenizer import Tokenizer

RECORD = "conversion.json"
"""Beside the checkpoint: where it came from, and the norm that was folded in."""
CALIBRATION_SIDE = 256


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
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """`convert` from `name` to a checkpoint folder of weights of a `dtype`; returns its record.

    Finished work of the same settings, over images that hold the same, is left alone.

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
    if images is not None:
        request["calibrate_sha256"] = _images_sha256(images)
    if dtype is not None:
        request["dtype"] = str(dtype).removeprefix("torch.")
    record = out / RECORD
    earlier = read_json(record) if record.exists() and not force else {}
    before = earlier.get("request")
    begun = before == request
    before = before if isinstance(before, dict) else request
    for key in dict.fromkeys([*request, *before]):
        if before.get(key) != request.get(key):
            raise UsageError(
                f"{out} was begun with {key} {shown(before.get(key))}, not "
                f"{shown(request.get(key))}; use --force or another --out"
            )
    if begun and "sha256" in earlier and (out / WEIGHTS).exists():
        return earlier
    require_unused(out, force=force or begun)
    source = read_source(name)
    tokenizer, folded = convert(
        source,
        variant=variant,
        codebook_size=codebook_size,
        latent_norm=latent_norm,
        images=images,
    )
    result = {"request": request, "folded_latent_norm": folded}
    scale = source.settings.get("scaling_factor")
    if isinstance(scale, (int, float)):
        result["scaling_factor"] = scale
    out.mkdir(parents=True, exist_ok=True)
    remove_partials(out)
    # Before the weights: what is killed between the two is known to be this conversion.
    write_atomic(record, json.dumps({"request": request}, indent=1).encode() + b"\n")
    result["sha256"] = tokenizer.save_pretrained(out, dtype=dtype)
    write_atomic(record, json.dumps(result, indent=1).encode() + b"\n")
    return result


def _images_sha256(folder: Path) -> str:
    """A hash of what the images of a folder are called and hold (see `contents_sha256`)."""
    files = list_images(folder)
    return contents_sha256(
        [(path.relative_to(folder).as_posix(), file_part(str(path))) for path in files]
    )


class Made(NamedTuple):
    """What a conversion made, for whoever asked for it."""

    layouts: list[str]
    """Names of `dcht.config.VARIANTS` with this layout; empty: it is nobody else's."""
    parameters: int
    codes: int | None
    next_command: str


def describe(out: Path) -> Made:
    """What a conversion has written into a folder, and what to do with it.

    Raises:
        CheckpointError: it is no checkpoint.
    """
    config = from_dict(TokenizerConfig, read_config(out), str(out))
    plain = replace(config, codebook_size=None)
    layouts = [name for name in VARIANTS if _fits(config, name) or _fits(plain, name)]
    tokenizer = build_on_meta(lambda: Tokenizer(config), str(out))
    parameters = sum(p.numel() for p in tokenizer.parameters())
    # Only codes that were added at random are still to be trained: those of the release were.
    to_train = config.codebook_size is not None and config.residual_std is None
    name = printable(out)
    command = f"dcht encode images/ --ckpt {name} --out latents/"
    if to_train:
        command = f"dcht-train +experiment=imagenet256 init_from={name} data.root=images out=run"
    return Made(layouts, parameters, config.codebook_size, command)


def _fits(config: TokenizerConfig, name: str) -> bool:
    try:
        check_variant(config, name)
    except CheckpointError:
        return False
    return True

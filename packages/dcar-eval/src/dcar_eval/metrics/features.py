"""Feature extractors by name, and the features of a set of images, cached by content.

`inception` and `inception-tf1` are FID's network; `efficientnet-lite0` can be had offline; `dinov2`
and `clip` come through transformers (`dinov2:FOLDER` names other weights of the kind); any other is
named `package.module:function`, a function that returns a module which maps uint8 images
(b, 3, H, W) to features (b, d).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from dcar_eval.fid import Statistics, load_statistics
from dcar_eval.metrics.crops import cropping
from dcar_eval.metrics.efficientnet import load_efficientnet
from dcar_eval.metrics.inception import load_inception
from dcar_eval.metrics.pixels import eight_bits
from dcar_eval.metrics.protocol import Crop
from dcar_eval.metrics.transformers_features import DEFAULTS, load_transformers_features
from dcar_eval.runs.journal import STATE, Features, Journal
from dcht.checkpoint import module_sha256
from dcht.data.entries import Entry, content_sha256
from dcht.data.reader import Reader, split
from dcht.errors import UsageError
from dcht.files import locked, remove_partials
from dcht.images import Fitting, ImageError

CACHE_VARIABLE = "DCAR_EVAL_CACHE"
EXTRACTORS = ("inception", "inception-tf1", "efficientnet-lite0", "dinov2", "clip")
INCEPTION = ("inception", "inception-tf1")
"""Those whose weights are FID's, or made of them."""
SAVED_EVERY = 512
"""Images between two states on disk: what a killed run does again at most."""
KIND = "images"


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A network that makes features, in eval mode, and what it is."""

    name: str
    sha256: str
    """Of its parameters and buffers; and of its code, where that is not ours."""
    dim: int
    device: torch.device
    module: Callable[[Tensor], Tensor]
    to_logits: Callable[[Tensor], Tensor] | None = None
    """From features to a classifier's logits, where the network is one."""

    def __call__(self, pixels: Tensor) -> Features:
        """Features (b, dim) of uint8 images (b, 3, H, W)."""
        with torch.inference_mode():
            return self.module(pixels.to(self.device)).float().cpu().numpy()


def load_extractor(
    name: str, *, device: torch.device, inception_weights: str | Path | None = None
) -> Extractor:
    """The extractor of a name.

    Args:
        name: one of `EXTRACTORS`, or `package.module:function`.
        device: where it shall be.
        inception_weights: see `load_inception`.

    Raises:
        UsageError: the name is not known, or there are no weights; the message says how to get
            them.
        CheckpointError: weights that are other ones than they should be.
    """
    code = b""
    if inception_weights is not None and name not in INCEPTION:
        raise UsageError(
            f"--inception-weights {inception_weights} are of FID's network, and the extractor is "
            f"{name}; leave one of them out"
        )
    if name in INCEPTION:
        module: nn.Module = load_inception(inception_weights, tf1=name == "inception-tf1")
    elif name == "efficientnet-lite0":
        module = load_efficientnet()
    elif name.partition(":")[0] in DEFAULTS:
        module = load_transformers_features(name)
    else:
        module = _own(name)
        code = _source(module, name)
    module = module.to(device).eval()
    with torch.inference_mode():
        features = module(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device))
    if features.ndim != 2:
        raise UsageError(
            f"extractor {name!r} gives features of shape {tuple(features.shape)}; expected (b, d)"
        )
    return Extractor(
        name=name,
        sha256=module_sha256(module, code),
        dim=features.shape[1],
        device=device,
        module=module,
        to_logits=getattr(module, "to_logits", None),
    )


def _own(name: str) -> nn.Module:
    """What `package.module:function` returns."""
    place, _, function = name.partition(":")
    if not place or not function:
        raise UsageError(
            f"extractor {name!r} is not known; use {', '.join(EXTRACTORS)}, or your own as "
            "package.module:function"
        )
    try:
        module = getattr(import_module(place), function)()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"extractor {name!r} cannot be had: {error}") from None
    if not isinstance(module, nn.Module):
        raise UsageError(f"{name} returned a {type(module).__name__}; expected a torch module")
    return module


def _source(module: nn.Module, name: str) -> bytes:
    """The code of a network that a user brings, and of what makes it: part of its identity."""
    code = b""
    for thing in (import_module(name.partition(":")[0]), type(module)):
        with suppress(OSError, TypeError):  # typed into a session, say
            code += Path(inspect.getfile(thing)).read_bytes()
    return code


def load_reference(path: Path, extractor: Extractor) -> Statistics:
    """Stored statistics, to be held against an extractor's features.

    Raises:
        UsageError: they cannot be read, or are another network's.
    """
    found = load_statistics(path)
    require_comparable(found, extractor, str(path))
    return found


def require_comparable(statistics: Statistics, extractor: Extractor, name: str) -> None:
    """Refuse statistics that no features of an extractor can be held against.

    Raises:
        UsageError: they have another dimension; `name` says whose they are.
    """
    if (dim := statistics.mu.size) != extractor.dim:
        raise UsageError(
            f"{name} has statistics of {dim:,} dimensions, and extractor {extractor.name} makes "
            f"features of {extractor.dim:,}; name the --extractor that they were made with"
        )


def cached_features(
    entries: Sequence[Entry],
    extractor: Extractor,
    *,
    size: tuple[int, int] | None,
    crop: Crop,
    batch_size: int = 32,
) -> Features:
    """The features (n, dim) of images, which must all be readable.

    They are kept where `DCAR_EVAL_CACHE` points (else in the user's cache folder), by the content
    of the images, the crop, the batch size and the extractor; a run that was killed goes on there.

    Args:
        entries: the images.
        extractor: what makes the features.
        size: (width, height) that each is brought to; None: as they are, all of one size.
        crop: how.
        batch_size: images in one pass.

    Raises:
        UsageError: an image cannot be read, or has another size than the first and `size` is None.
    """
    fit: Fitting = same_size
    if size is None:
        size = entries[0].open().size
    else:
        fit = cropping(crop, size)
    how = crop.value if fit is not same_size else ""
    # The last bits depend on the batches.
    facts = [extractor.name, extractor.sha256, size, how, batch_size, content_sha256(entries)]
    folder = cache_folder() / hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    with locked(folder, wait=True):
        remove_partials(folder)
        try:
            journal = Journal(folder, {KIND: extractor.dim})
        except UsageError:
            (folder / STATE).unlink()  # damaged: this is a cache, and begins anew
            journal = Journal(folder, {KIND: extractor.dim})
        reader = Reader(size, fit=fit, strict=True)
        parts = split(entries[journal.done :], batch_size)
        with tqdm(total=len(entries), unit="img", desc="features", disable=None) as progress:
            progress.update(journal.done)
            saved = journal.done
            for batch in reader.batches(parts):
                features = {KIND: extractor(eight_bits(batch.images))}
                journal.add([], files=len(batch.rows), features=features)
                if journal.done - saved >= SAVED_EVERY or journal.done == len(entries):
                    journal.save()
                    saved = journal.done
                progress.update(len(batch.rows))
        return journal.features(KIND)


def same_size(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image itself.

    Raises:
        ImageError: it has another size.
    """
    if image.size != size:
        raise ImageError(
            f"is {image.width} x {image.height}, the first one {size[0]} x {size[1]}; give --size"
        )
    return image


def cache_folder() -> Path:
    """Where features are kept."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcar-eval"
    return Path(os.environ.get(CACHE_VARIABLE) or default) / "features"

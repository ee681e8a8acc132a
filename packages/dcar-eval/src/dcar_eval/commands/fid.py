"""`dcar-eval fid` and `dcar-eval stats`: any two sets of images."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dcar_eval.commands.common import add_inception, pick_metrics
from dcar_eval.metrics.protocol import Crop
from dcht.commands.common import OK, add_common, require_sources
from dcht.config import parse_size
from dcht.device import pick_device
from dcht.errors import UsageError, printable

if TYPE_CHECKING:
    from dcar_eval.fid import Statistics
    from dcar_eval.metrics.features import Extractor
    from dcar_eval.runs.journal import Features
    from dcht.data.entries import Entry

SETS = "a zip of images, a batch of pixels (.npz with arr_0), or whatever dcht encode reads"


class ImageSet(NamedTuple):
    """One of the two sets that are compared."""

    place: Path
    entries: list[Entry]
    """Its images; none of stored statistics."""
    size: tuple[int, int] | None
    """(width, height) in which they are looked at: that of the first, without --size."""

    def described(self, found: Features | Statistics) -> dict[str, Any]:
        """What it is, and how many images, which statistics do not tell."""
        from dcar_eval.fid import Statistics, statistics_sha256
        from dcht.data.entries import content_sha256

        if isinstance(found, Statistics):
            number, sha256 = None, statistics_sha256(found)
        else:
            number, sha256 = len(found), content_sha256(self.entries)
        return {"path": str(self.place), "n": number, "size": self.size, "sha256": sha256}


def add(verbs: Any) -> None:
    """Add both verbs to the subparsers."""
    verb = verbs.add_parser("fid", help="FID, KID and other distances of two sets of images")
    verb.add_argument("reference", type=Path, help=f"{SETS}, or statistics (.npz)")
    verb.add_argument("images", type=Path, help=f"{SETS}, or statistics (.npz)")
    verb.add_argument(
        "--metrics", metavar="NAMES", default="",
        help="beside FID and KID, any of mind,precision-recall,cmmd,inception-score; distances "
        "with a network other than FID's bear its name: FD-DINOv2 is --extractor dinov2",
    )  # fmt: skip
    _add_reading(verb)
    add_common(verb, "json")
    verb.set_defaults(function=run_fid)

    verb = verbs.add_parser("stats", help="statistics of images, as pytorch-fid stores them")
    verb.add_argument("images", type=Path, help=SETS)
    _add_reading(verb)
    add_common(verb, "out", "force", out={"metavar": "X.npz"})
    verb.set_defaults(function=run_stats)


def _add_reading(verb: argparse.ArgumentParser) -> None:
    size = {"default": None, "help": "N or WxH [as they are, which must be one size]"}
    verb.add_argument(
        "--crop", choices=[crop.name for crop in Crop],
        help="how images are brought to --size [cover]",
    )  # fmt: skip
    add_inception(verb)
    add_common(verb, "follow_links", "size", "batch_size", "device", size=size, batch_size=32)


def run_fid(arguments: argparse.Namespace) -> int:
    """Print the distances."""
    _check(arguments, arguments.reference, arguments.images)
    metrics = _metrics(arguments)
    from dcar_eval.fid import FEW_IMAGES, Statistics
    from dcar_eval.metrics.distances import distances, few_images, frechet
    from dcar_eval.metrics.features import load_reference
    from dcar_eval.metrics.protocol import fid_name
    from dcar_eval.runs.results import versions

    sets = [_find(place, arguments) for place in (arguments.reference, arguments.images)]
    _require_one_size(*sets)
    extractor = _extractor(arguments)
    # Of both sets before any image: statistics that do not fit are said at once.
    stored = [None if one.entries else load_reference(one.place, extractor) for one in sets]
    real, fake = (
        _features(one.entries, arguments, extractor) if statistics is None else statistics
        for one, statistics in zip(sets, stored, strict=True)
    )
    counts = [FEW_IMAGES if isinstance(one, Statistics) else len(one) for one in (real, fake)]
    found: dict[str, dict[str, Any]]
    if not isinstance(fake, Statistics):
        found = distances(real, fake, kind="fid", extractor=extractor.name)
        found |= _more(metrics, real, fake, extractor)
    elif not isinstance(real, Statistics):  # the distance is the same from either side
        found = distances(fake, real, kind="fid", extractor=extractor.name)
    else:
        found = {fid_name("fid", extractor.name): {"value": frechet(real, fake)}}
    if arguments.json:
        facts = {"name": extractor.name, "sha256": extractor.sha256}
        reading = {
            "size": arguments.size,
            "crop": arguments.crop,
            "batch_size": arguments.batch_size,
            "reference": sets[0].described(real),
            "images": sets[1].described(fake),
        }
        packages = versions(("dcar-eval", "torch", "numpy", "pillow"))
        print(json.dumps({**found, "extractor": facts, **reading, "versions": packages}))
    else:
        for name, values in found.items():
            spread = values.get("splits", values).get("std")
            beside = "" if spread is None else f"  (deviation {spread:.4f})"
            named = [key for key in ("precision", "recall") if key in values]
            for key in named or ["value"]:
                print(f"{f'{name} {key}' if named else name} {values[key]:.4f}{beside}")
    for name, values in found.items():
        # Either set biases it: a reference of few images as much as few images.
        fewest = min(values.get("n", FEW_IMAGES), *counts)
        for note in few_images(name, fewest) if name[:3] == "fid" else []:
            print(printable(note), file=sys.stderr)
    return OK


def _find(place: Path, arguments: argparse.Namespace) -> ImageSet:
    if _is_statistics(place):
        return ImageSet(place, [], None)
    entries = _list(place, arguments)
    size = parse_size(arguments.size) if arguments.size else entries[0].open().size
    return ImageSet(place, entries, size)


def _require_one_size(reference: ImageSet, images: ImageSet) -> None:
    """Refuse images that are looked at in two sizes; statistics do not tell theirs."""
    first, second = reference.size, images.size
    if first and second and first != second:
        raise UsageError(
            f"images of {reference.place} are {first[0]} x {first[1]}, of {images.place} "
            f"{second[0]} x {second[1]}; give --size"
        )


def _metrics(arguments: argparse.Namespace) -> list[str]:
    """The further metrics that were asked for, before anything is loaded."""
    from dcar_eval.metrics.sets import INCEPTION_SCORE, METRICS

    names = pick_metrics(arguments.metrics, (*METRICS, INCEPTION_SCORE))
    for place, needing in ((arguments.reference, METRICS), (arguments.images, names)):
        if _is_statistics(place) and set(names) & set(needing):
            raise UsageError(f"{place} holds mean and covariance; {', '.join(names)} need images")
    return names


def _is_statistics(place: Path) -> bool:
    from dcar_eval.given.batches import is_batch

    return place.suffix.lower() == ".npz" and not is_batch(place)


def _more(
    metrics: list[str], reference: Any, fake: Features, extractor: Extractor
) -> dict[str, dict[str, Any]]:
    """The further metrics, each with its settings and source beside its values."""
    import torch

    from dcar_eval.metrics.protocol import fid_name
    from dcar_eval.metrics.sets import INCEPTION_SCORE, METRICS, inception_score

    found: dict[str, dict[str, Any]] = {}
    for name in metrics:
        key = fid_name(name, extractor.name)
        if name != INCEPTION_SCORE:
            metric = METRICS[name]
            values = metric.compute(reference, fake)
            found[key] = {**values, "n": len(fake), **metric.record(name)}
            continue
        to_logits = extractor.to_logits
        if to_logits is None:
            raise UsageError(
                f"{INCEPTION_SCORE} needs a classifier, and extractor {extractor.name} is none; "
                "use inception or efficientnet-lite0"
            )
        with torch.inference_mode():
            logits = to_logits(torch.from_numpy(fake).to(extractor.device))
        found[key] = {**inception_score(logits.cpu().numpy()), "n": len(fake), "splits_num": 10}
    return found


def run_stats(arguments: argparse.Namespace) -> int:
    """Write the file, unless it holds the same already, and print its name."""
    _check(arguments, arguments.images)
    if arguments.out.suffix != ".npz":
        raise UsageError(f"--out {arguments.out} should end in .npz")
    from numpy import array_equal

    from dcar_eval.fid import load_statistics, save_statistics
    from dcar_eval.metrics.distances import statistics_of

    entries = _list(arguments.images, arguments)
    found = statistics_of(_features(entries, arguments, _extractor(arguments)))
    if arguments.out.exists() and not arguments.force:
        there = load_statistics(arguments.out)
        if not all(map(array_equal, found, there)):
            raise UsageError(f"{arguments.out} is of others; use --force or another --out")
    else:
        save_statistics(arguments.out, found)
    print(printable(arguments.out))
    return OK


def _check(arguments: argparse.Namespace, *places: Path) -> None:
    # Before torch and the weights are loaded: a typing mistake should answer at once.
    require_sources(map(str, places))
    if arguments.crop is not None and arguments.size is None:
        raise UsageError(f"--crop {arguments.crop} says how images come to a --size; give that too")
    if arguments.size is not None and arguments.crop is None:
        arguments.crop = Crop.cover.name


def _extractor(arguments: argparse.Namespace) -> Extractor:
    from dcar_eval.metrics.features import load_extractor

    return load_extractor(
        arguments.extractor or "inception",
        device=pick_device(arguments.device),
        inception_weights=arguments.inception_weights,
    )


def _list(place: Path, arguments: argparse.Namespace) -> list[Entry]:
    from dcar_eval.given.batches import is_batch, list_batch
    from dcht.data.sources import list_inputs
    from dcht.data.zips import list_zip

    if is_batch(place):
        entries = list_batch(place)
    elif place.suffix == ".zip":
        entries = list_zip(place)
    else:
        entries = list_inputs(place, follow_links=arguments.follow_links)
    if not entries:
        raise UsageError(f"{place} holds no images")
    return entries


def _features(
    entries: list[Entry], arguments: argparse.Namespace, extractor: Extractor
) -> Features:
    from dcar_eval.metrics.features import cached_features

    return cached_features(
        entries,
        extractor,
        size=parse_size(arguments.size) if arguments.size else None,
        crop=Crop[arguments.crop or Crop.cover.name],
        batch_size=arguments.batch_size,
    )

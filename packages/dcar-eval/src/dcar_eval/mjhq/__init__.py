"""MJHQ-30K: the gFID of a text-to-image model (paper, Table 2).

The benchmark (Li et al. 2024, Playground v2.5) is 30,000 prompts of ten categories with an image
each. Prompt k is generated with the noise of (seed, k). How they are saved, cropped and compared is
the protocol's to say (`dcar_eval.metrics.protocol.GENERATION_PROTOCOLS`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dcar_eval.fid import Statistics, statistics_sha256
from dcar_eval.metrics.crops import cropping
from dcar_eval.metrics.distances import distances, few_images, frechet
from dcar_eval.metrics.features import Extractor, cached_features, require_comparable
from dcar_eval.metrics.protocol import GenerationProtocol, fid_name
from dcar_eval.metrics.sets import METRICS, measure_sets
from dcar_eval.mjhq.benchmark import Prompt, hash_prompts
from dcar_eval.mjhq.sources import GeneratedImages, GivenImages
from dcar_eval.runs.journal import ERRORS, ROWS, STATE, Journal
from dcar_eval.runs.results import (
    CONTENT,
    hash_all,
    hash_contents,
    text_table,
    this_run,
    versions,
)
from dcar_eval.runs.run import Run
from dcar_eval.runs.shares import Gathered, Share
from dcht.data.entries import Entry
from dcht.errors import UsageError
from dcht.images import Fitting, open_image, to_bytes

BENCHMARK_SIZE = 30_000
PACKAGES = ("dcar-eval", "dcar", "dcht", "torch", "numpy", "pillow", "pytorch-fid")
SAVED_EVERY = 64
"""Images between two states on disk: what is measured again at most; images are kept."""
REAL, GENERATED = "reference", "images"


@torch.inference_mode()
def evaluate_mjhq(
    source: GeneratedImages | GivenImages,
    prompts: Sequence[Prompt],
    reference: Sequence[Entry] | Statistics,
    out: Path,
    *,
    protocol: GenerationProtocol,
    extractor: Extractor,
    metrics: Sequence[str] = (),
    batch_size: int = 8,
    share: Share | None = None,
    force: bool = False,
) -> dict[str, Any] | None:
    """Draw, measure and compare; continue where a run stopped, image by image.

    Writes `images.jsonl` (a row an image: prompt, category, hash of the file) and, last,
    `results.json`; what is generated goes where `source` says.

    Args:
        source: makes the images.
        prompts: the benchmark's, in order.
        reference: its images in the same order; or stored statistics of them, which leave out KID
            and the categories.
        out: folder to write.
        protocol: how.
        extractor: the network of `protocol.fid`.
        metrics: of `dcar_eval.metrics.sets.METRICS`, beside the protocol's.
        batch_size: images generated and measured together.
        share: what this process does of it; None: all.
        force: replace what `out` holds.

    Returns:
        The content of `results.json`; None while other shares have not come to their end.

    Raises:
        UsageError: `out` holds something else, an image is missing or cannot be read, statistics
            are another network's, or metrics that need the reference's images were asked for and
            there are only statistics.
    """
    share = share or Share()
    if isinstance(reference, Statistics):
        if metrics:
            raise UsageError(
                f"stored statistics are mean and covariance; {metrics[0]} needs images"
            )
        require_comparable(reference, extractor, "the reference")
    statistics = reference if isinstance(reference, Statistics) else None
    contents = hash_contents(source.given, "images/")
    if not isinstance(reference, Statistics):
        contents |= hash_contents(reference, "reference/")
    settings = {
        "protocol": protocol.name,
        "protocol_sha256": protocol.sha256,
        "extractor_sha256": extractor.sha256,
        "prompts": len(prompts),
        "prompts_sha256": hash_prompts(prompts),
        "reference": "images" if statistics is None else statistics_sha256(statistics),
        "batch_size": batch_size,
        **source.settings(),
        CONTENT: hash_all(contents),
    }
    if metrics:
        settings["further"] = {name: METRICS[name].record(name)["sha256"] for name in metrics}
    count = len(prompts)
    starts = range(0, count, batch_size)
    dims = {GENERATED: extractor.dim}
    if not isinstance(reference, Statistics):
        dims[REAL] = extractor.dim
    run = Run(
        out=out,
        settings=settings,
        written=(STATE, ROWS, ERRORS),
        names=[prompt.key for prompt in prompts],
        batches=[range(first, min(first + batch_size, count)) for first in starts],
        share=share,
        dims=dims,
        contents=contents,
        force=force,
    )

    def measure(journal: Journal, batches: list[range]) -> None:
        real = None
        if not isinstance(reference, Statistics) and batches:
            size = (protocol.size, protocol.size)
            own = [reference[index] for batch in batches for index in batch]
            # In the batches of the images: the same bits, whoever has which share.
            real = cached_features(
                own, extractor, size=size, crop=protocol.crop, batch_size=batch_size
            )
        _measure_share(source, prompts, batches, real, journal, protocol, extractor)

    def summarize(gathered: Gathered) -> dict[str, Any]:
        return {
            "task": "mjhq",
            "protocol": protocol.described(),
            "settings": settings,
            "n": count,
            **_values(gathered, statistics, extractor, metrics),
            "versions": versions(PACKAGES),
            "run": this_run(run.started, extractor.device),
        }

    return run.finish(measure, summarize)


def _measure_share(
    source: GeneratedImages | GivenImages,
    prompts: Sequence[Prompt],
    batches: Sequence[range],
    real: np.ndarray | None,
    journal: Journal,
    protocol: GenerationProtocol,
    extractor: Extractor,
) -> None:
    """Work off what the journal does not have yet; `real` are the reference's features."""
    fit = cropping(protocol.crop, (protocol.size, protocol.size))
    total, saved = sum(map(len, batches)), journal.done
    ends = list(accumulate(map(len, batches)))
    with tqdm(total=total, unit="img", desc="mjhq", disable=None) as progress:
        progress.update(journal.done)
        for batch, end in zip(batches, ends, strict=True):
            if end <= journal.done:
                continue
            files = source.images(batch)
            pixels = torch.stack([_pixels(file, fit, protocol.size) for file in files])
            features = {GENERATED: extractor(pixels)}
            if real is not None:
                features[REAL] = real[end - len(batch) : end]
            rows = [
                {
                    "index": index,
                    "file": file.name,
                    "key": prompts[index].key,
                    "category": prompts[index].category,
                    "prompt": prompts[index].prompt,
                    "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                }
                for index, file in zip(batch, files, strict=True)
            ]
            journal.add(rows, files=len(batch), features=features)
            if journal.done - saved >= SAVED_EVERY or journal.done == total:
                journal.save()
                saved = journal.done
            progress.update(len(batch))


def _pixels(file: Path, fit: Fitting, side: int) -> torch.Tensor:
    try:
        return to_bytes(fit(open_image(file), (side, side)))
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None


def _values(
    gathered: Gathered, stored: Statistics | None, extractor: Extractor, further: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """`metrics` of all, and of each category where the reference's images are there."""
    generated = gathered.features[GENERATED]
    reference = stored if stored is not None else gathered.features[REAL]
    metrics = distances(reference, generated, kind="gfid", extractor=extractor.name)
    if isinstance(reference, Statistics):
        return {"metrics": metrics, "categories": {}}
    metrics |= measure_sets(further, reference, generated, extractor=extractor.name)
    name = fid_name("gfid", extractor.name)
    of = np.array([row["category"] for row in gathered.rows])
    categories = {}
    for category in sorted(set(of.tolist())):
        chosen = of == category
        if chosen.sum() > 1:
            value = frechet(reference[chosen], generated[chosen])
            categories[category] = {name: {"value": value, "n": int(chosen.sum())}}
    return {"metrics": metrics, "categories": categories}


def notes(results: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know."""
    found = []
    names = [name for name in results["metrics"] if name.startswith("gfid")]
    if results["n"] != BENCHMARK_SIZE:
        found.append(
            f"{results['n']:,} prompts of the benchmark's {BENCHMARK_SIZE:,}: comparable with no "
            "published number"
        )
    for name in names:
        found += few_images(name, results["n"])
    if results["categories"]:
        counts = Counter(
            values["n"] for entry in results["categories"].values() for values in entry.values()
        )
        found.append(
            f"a category's value is of {counts.most_common(1)[0][0]:,} images, which biases it "
            "upward: compare it with the same category's of another model, never with the overall "
            "value"
        )
    return found


def table(results: dict[str, Any]) -> str:
    """The results as a table of text."""
    names = list(results["metrics"])
    lines = [["images of", *names, "images"]]
    groups = {"all": results["metrics"], **results["categories"]}
    for group, metrics in groups.items():
        cells = [metrics.get(name, {}).get("value") for name in names]
        shown = ["-" if value is None else f"{value:.4f}" for value in cells]
        lines.append([group, *shown, str(next(iter(metrics.values()))["n"])])
    return text_table(lines)

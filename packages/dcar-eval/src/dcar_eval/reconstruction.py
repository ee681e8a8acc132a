"""What a tokenizer loses: PSNR, SSIM, LPIPS and rFID of its reconstructions (paper, Table 1).

Both sides are 8-bit images: the crop that the tokenizer is given, and what comes back, rounded.
Which conventions hold is the protocol's to say (`dcar_eval.metrics.protocol`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dcar_eval.metrics.crops import cropping
from dcar_eval.metrics.distances import distances, few_images
from dcar_eval.metrics.networks import FURTHER, MetricNetworks, measure
from dcar_eval.metrics.pairs import PAIR_METRICS, require_sides
from dcar_eval.metrics.pixels import eight_bits
from dcar_eval.metrics.sets import METRICS, measure_sets
from dcar_eval.runs.journal import ERRORS, ROWS, STATE, Features, Journal
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
from dcht.checkpoint import module_sha256
from dcht.data.entries import Entry
from dcht.data.reader import Batch, Reader, split
from dcht.data.sources import list_inputs
from dcht.errors import CheckpointError, UsageError
from dcht.images import grid, save_png, to_pil
from dcht.reconstruct.show import COMPARED, compare
from dcht.tokenizer import Tokenizer

PATHS = {"hybrid": ("hybrid",), "discrete": ("discrete",), "both": ("hybrid", "discrete")}
SHEET = "sheet.png"
SHEET_IMAGES = 8
SAVED_EVERY = 512
"""Files between two states on disk: what a killed run does again at most."""
PACKAGES = ("dcar-eval", "dcht", "torch", "numpy", "pillow", "scikit-image", "pytorch-fid")


@torch.inference_mode()
def evaluate_reconstruction(
    tokenizer: Tokenizer,
    folder: Path,
    out: Path,
    *,
    size: tuple[int, int],
    path: str = "both",
    batch_size: int = 16,
    limit: int | None = None,
    networks: MetricNetworks | None = None,
    share: Share | None = None,
    force: bool = False,
    strict: bool = False,
    follow_links: bool = False,
) -> dict[str, Any] | None:
    """Measure the reconstructions of every image of `folder`; continue where a run stopped.

    Writes `images.jsonl` (a row an image), `errors.jsonl` (what could not be read), `sheet.png`
    (input, discrete, hybrid, 5 x error of the first images) and, last, `results.json`.

    Args:
        tokenizer: in eval mode, from a checkpoint.
        folder: the images: any source of `dcht.data.sources.list_inputs`.
        out: folder to write.
        size: (width, height) that every image is resized and cropped to.
        path: `hybrid`, `discrete` or `both`.
        batch_size: images in one pass.
        limit: only the first so many files.
        networks: a protocol, and what its LPIPS and rFID need; None: protocol `dcar`, and neither.
        share: what this process does of it; None: all.
        force: replace what `out` holds.
        strict: stop at the first file that cannot be read.
        follow_links: whether links in folders may lead out of them.

    Returns:
        The content of `results.json`; None while other shares have not come to their end.

    Raises:
        UsageError: no images, images too small for a metric, or `out` holds something else.
        CheckpointError: the tokenizer has no hash, or no quantizer for the discrete path.
    """
    entries = list_inputs(folder, follow_links=follow_links, out=out)[:limit]
    if tokenizer.sha256 is None:
        raise CheckpointError("the tokenizer was never saved; save_pretrained gives it its hash")
    paths = PATHS[path]
    if "discrete" in paths:
        tokenizer.require_quantizer()
    networks, share = networks or MetricNetworks(), share or Share()
    require_sides(networks.further, size)
    contents = hash_contents(entries)
    protocol, extractor = networks.protocol, networks.extractor
    settings = {
        "protocol": protocol.name,
        "protocol_sha256": protocol.sha256,
        "extractor_sha256": extractor.sha256 if extractor else None,
        "tokenizer_sha256": tokenizer.sha256,
        **tokenizer.precision.noted(),
        "size": list(size),
        "paths": list(paths),
        "metrics": networks.metrics,
        "files": len(entries),
        "batch_size": batch_size,
        CONTENT: hash_all(contents),
    }
    if networks.lpips:
        settings["lpips_sha256"] = {n: module_sha256(net) for n, net in networks.lpips.items()}
    if networks.further:
        settings["further"] = {n: FURTHER[n].record(n)["sha256"] for n in networks.further}
    sides = ("input", *paths) if extractor else ()
    run = Run(
        out=out,
        settings=settings,
        written=(STATE, ROWS, ERRORS, SHEET),
        names=[entry.name for entry in entries],
        batches=split(entries, batch_size),
        share=share,
        dims={side: extractor.dim for side in sides if extractor},
        contents=contents,
        force=force,
    )
    reader = Reader(size, fit=cropping(protocol.crop, size), strict=strict)
    numbers = {entry.name: number for number, entry in enumerate(entries)}

    def measure(journal: Journal, batches: list[Sequence[Entry]]) -> None:
        _measure_share(tokenizer, reader, batches, numbers, paths, networks, journal)
        if tokenizer.quantizer is not None and share.number == 0:
            shown = entries[:SHEET_IMAGES]
            _write_sheet(tokenizer, reader.batches(split(shown, batch_size)), out / SHEET)

    def summarize(gathered: Gathered) -> dict[str, Any]:
        rows = gathered.rows
        if not rows:
            listing = share.folder(out) / ERRORS
            raise UsageError(f"none of the {len(entries)} images could be read: see {listing}")
        return {
            "task": "reconstruction",
            "protocol": protocol.described(),
            "settings": settings,
            "n": len(rows),
            "skipped": len(gathered.errors),
            "paths": {name: _values(gathered, name, networks) for name in paths},
            "left_out": networks.left_out,
            "versions": versions(PACKAGES),
            "run": this_run(run.started, next(tokenizer.parameters()).device),
        }

    return run.finish(measure, summarize)


def _measure_share(
    tokenizer: Tokenizer,
    reader: Reader,
    batches: Sequence[Sequence[Entry]],
    numbers: dict[str, int],
    paths: Sequence[str],
    networks: MetricNetworks,
    journal: Journal,
) -> None:
    """Work off what the journal does not have yet of these batches; images are numbered by name."""
    total = sum(map(len, batches))
    ends = list(accumulate(map(len, batches)))
    todo = [batch for batch, end in zip(batches, ends, strict=True) if end > journal.done]
    with tqdm(total=total, unit="img", desc="reconstruction", disable=None) as progress:
        progress.update(journal.done)
        saved = journal.done
        for part, batch in zip(todo, reader.batches(todo), strict=True):
            rows, features = _measure(tokenizer, batch, paths, networks)
            named = zip(batch.rows, rows, strict=True)
            journal.add(
                [{"index": numbers[name["file"]], **name, **row} for name, row in named],
                [{"index": numbers[error["file"]], **error} for error in batch.errors],
                files=len(part),
                features=features,
            )
            if journal.done - saved >= SAVED_EVERY or journal.done == total:
                journal.save()
                saved = journal.done
            progress.update(len(part))


def _measure(
    tokenizer: Tokenizer, batch: Batch, paths: Iterable[str], networks: MetricNetworks
) -> tuple[list[dict[str, Any]], dict[str, Features]]:
    """The metrics of each image by path, and the features of each side."""
    if not batch.rows:
        return [], {}
    device = next(tokenizer.parameters()).device
    images = batch.images.to(device)
    rounding = networks.protocol.rounding
    z = tokenizer.encode(images)
    # What was read is 8 bits already.
    pixels = {"input": eight_bits(images)}
    for path in paths:
        latent = z if path == "hybrid" else tokenizer.quantize(z).z_q
        pixels[path] = eight_bits(tokenizer.decode(latent), rounding)
    features = {}
    if networks.extractor is not None:
        features = {name: networks.extractor(values) for name, values in pixels.items()}
    rows: list[dict[str, Any]] = [{} for _ in batch.rows]
    for path in paths:
        measured = measure(pixels["input"], pixels[path], networks, device)
        for row, values in zip(rows, measured, strict=True):
            row[path] = values
    return rows, features


def _values(gathered: Gathered, path: str, networks: MetricNetworks) -> dict[str, dict[str, Any]]:
    """Every metric of a path: its value, and over how many images."""
    rows = gathered.rows
    values: dict[str, dict[str, Any]] = {}
    for metric in rows[0][path]:
        # Identical pairs have no finite PSNR.
        finite = [row[path][metric] for row in rows if row[path][metric] is not None]
        mean = sum(finite) / len(finite) if finite else None
        values[metric] = {"value": mean, "n": len(finite)}
        if metric in PAIR_METRICS:
            values[metric] |= PAIR_METRICS[metric].record(metric)
    if gathered.features and len(rows) > 1:
        real, fake = gathered.features["input"], gathered.features[path]
        extractor = networks.protocol.fid
        values |= distances(real, fake, kind="rfid", extractor=extractor)
        values |= measure_sets(
            [name for name in networks.further if name in METRICS], real, fake, extractor=extractor
        )
    return values


def _write_sheet(tokenizer: Tokenizer, batches: Iterable[Batch], target: Path) -> None:
    device = next(tokenizer.parameters()).device
    images = [
        to_pil(pixels)
        for batch in batches
        if batch.rows
        for strip in compare(tokenizer, batch.images.to(device))
        for pixels in strip
    ]
    if images:
        sheet = grid(images, columns=len(COMPARED), labels=COMPARED)
        save_png(sheet, target, {"columns": ", ".join(COMPARED)})


def notes(results: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know: what is left out and why, and too few images."""
    found = [f"{name} is left out: {reason}" for name, reason in results["left_out"].items()]
    for name in results["settings"]["metrics"]:
        if name.startswith("rfid"):
            found += few_images(name, results["n"])
    return found


def table(results: dict[str, Any]) -> str:
    """The results as a table of text."""
    metrics = list(results["settings"]["metrics"])
    for values in results["paths"].values():
        metrics += [name for name in values if name not in metrics]
    lines = [["path", *metrics, "images"]]
    for path, values in results["paths"].items():
        cells = [values.get(metric, {}).get("value") for metric in metrics]
        shown = ["-" if value is None else f"{value:.4f}" for value in cells]
        lines.append([path, *shown, str(results["n"])])
    return text_table(lines)

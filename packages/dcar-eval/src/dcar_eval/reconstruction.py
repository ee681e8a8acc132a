"""What a tokenizer loses: PSNR, SSIM, LPIPS and rFID of its reconstructions (paper, Table 1).

Both sides are 8-bit images: the crop that the tokenizer is given, and what comes back, rounded.
Which conventions hold is the protocol's to say (`dcar_eval.protocol`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dcar_eval.fid import FEW_IMAGES, FeatureSums, SingularCovarianceWarning, frechet_distance
from dcar_eval.inception import DIM
from dcar_eval.journal import ERRORS, ROWS, STATE, Journal
from dcar_eval.metrics import Networks, channels_first, eight_bits, measure
from dcar_eval.protocol import PROTOCOLS
from dcar_eval.results import (
    finished,
    prepare,
    text_table,
    this_run,
    versions,
    write_results,
)
from dcht.entries import hash_entries
from dcht.errors import CheckpointError, UsageError
from dcht.images import grid, save_png, to_pil
from dcht.inputs import list_inputs
from dcht.reader import Batch, Reader, split
from dcht.reconstruct import compare
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
    networks: Networks | None = None,
    force: bool = False,
    strict: bool = False,
) -> dict[str, Any]:
    """Measure the reconstructions of every image below `folder`; continue where a run stopped.

    Writes `images.jsonl` (a row an image), `errors.jsonl` (what could not be read), `sheet.png`
    (input, discrete, hybrid, 5 x error of the first images) and, last, `results.json`.

    Args:
        tokenizer: in eval mode, from a checkpoint.
        folder: the images.
        out: folder to write.
        size: (width, height) that every image is resized and cropped to.
        path: `hybrid`, `discrete` or `both`.
        batch_size: images in one pass.
        limit: only the first so many files.
        networks: what LPIPS and rFID need; without it they are not measured.
        force: replace what `out` holds.
        strict: stop at the first file that cannot be read.

    Returns:
        The content of `results.json`.

    Raises:
        UsageError: no images, or `out` holds something else.
        CheckpointError: the tokenizer has no hash, or no quantizer for the discrete path.
    """
    entries = list_inputs(folder)[:limit]
    if tokenizer.sha256 is None:
        raise CheckpointError("the tokenizer was never saved; save_pretrained gives it its hash")
    paths = PATHS[path]
    if "discrete" in paths:
        tokenizer.require_quantizer()
    networks = networks or Networks()
    protocol = PROTOCOLS["dcar"]
    settings = {
        "protocol": protocol.name,
        "protocol_sha256": protocol.sha256,
        "tokenizer_sha256": tokenizer.sha256,
        "size": list(size),
        "paths": list(paths),
        "metrics": networks.metrics,
        "files": len(entries),
        "files_sha256": hash_entries(entries),
        "batch_size": batch_size,
    }
    prepare(out, settings, files=(ROWS, ERRORS, STATE, SHEET), force=force)
    if (done := finished(out)) is not None:
        return done
    start = time.perf_counter()
    sides = ("input", *paths) if networks.inception else ()
    journal = Journal(out, {side: FeatureSums.empty(DIM) for side in sides})
    reader = Reader(size, strict=strict)
    with tqdm(total=len(entries), unit="img", desc="reconstruction", disable=None) as progress:
        progress.update(journal.done)
        saved = journal.done
        for batch in reader.batches(split(entries[journal.done :], batch_size)):
            rows = _measure(tokenizer, batch, paths, networks, journal.sums)
            journal.add(
                [name | row for name, row in zip(batch.rows, rows, strict=True)],
                batch.errors,
                files=len(batch.rows) + len(batch.errors),
            )
            if journal.done - saved >= SAVED_EVERY:
                journal.save()
                saved = journal.done
            progress.update(len(batch.rows) + len(batch.errors))
    rows = journal.read(ROWS)
    if not rows:
        raise UsageError(f"none of the {len(entries)} images could be read: see {out / ERRORS}")
    if tokenizer.quantizer is not None:
        shown = {row["file"] for row in rows[:SHEET_IMAGES]}
        first = [entry for entry in entries if entry.name in shown]
        _write_sheet(tokenizer, reader.batches(split(first, batch_size)), out / SHEET)
    results = {
        "task": "reconstruction",
        "protocol": asdict(protocol) | {"sha256": protocol.sha256},
        "settings": settings,
        "n": len(rows),
        "skipped": len(journal.read(ERRORS)),
        "paths": {name: _values(rows, name, journal.sums) for name in paths},
        "left_out": networks.left_out,
        "versions": versions(PACKAGES),
        "run": this_run(start, next(tokenizer.parameters()).device),
    }
    write_results(out, results)
    (out / STATE).unlink(missing_ok=True)
    return results


def _measure(
    tokenizer: Tokenizer,
    batch: Batch,
    paths: Iterable[str],
    networks: Networks,
    sums: dict[str, FeatureSums],
) -> list[dict[str, Any]]:
    """The metrics of each image by path; features are added to `sums`."""
    if not batch.rows:
        return []
    device = next(tokenizer.parameters()).device
    images = batch.images.to(device)
    z = tokenizer.encode(images)
    pixels = {"input": eight_bits(images)}
    for path in paths:
        latent = z if path == "hybrid" else tokenizer.quantize(z).z_q
        pixels[path] = eight_bits(tokenizer.decode(latent))
    if networks.inception is not None:
        for name, values in pixels.items():
            sums[name].update(networks.inception(channels_first(values).to(device)).cpu())
    rows: list[dict[str, Any]] = [{} for _ in batch.rows]
    for path in paths:
        measured = measure(pixels["input"], pixels[path], networks, device)
        for row, values in zip(rows, measured, strict=True):
            row[path] = values
    return rows


def _values(
    rows: list[dict[str, Any]], path: str, sums: dict[str, FeatureSums]
) -> dict[str, dict[str, Any]]:
    """Every metric of a path: its value, and over how many images."""
    values = {}
    for metric in rows[0][path]:
        # Identical pairs have no finite PSNR.
        finite = [row[path][metric] for row in rows if row[path][metric] is not None]
        mean = sum(finite) / len(finite) if finite else None
        values[metric] = {"value": mean, "n": len(finite)}
    if sums and len(rows) > 1:
        with warnings.catch_warnings():
            # `notes` says it, in the user's words.
            warnings.simplefilter("ignore", SingularCovarianceWarning)
            statistics = [sums[name].statistics() for name in ("input", path)]
            distance = frechet_distance(*statistics[0], *statistics[1])
        values["rfid"] = {"value": distance, "n": len(rows)}
    return values


def _write_sheet(tokenizer: Tokenizer, batches: Iterable[Batch], target: Path) -> None:
    device = next(tokenizer.parameters()).device
    pictures = [
        to_pil(pixels)
        for batch in batches
        for strip in compare(tokenizer, batch.images.to(device))
        for pixels in strip
    ]
    columns = {"columns": "input, discrete, hybrid, 5 x error"}
    save_png(grid(pictures, columns=4), target, columns)


def notes(results: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know: what is left out and why, and too few images."""
    found = [f"{name} is left out: {reason}" for name, reason in results["left_out"].items()]
    if "rfid" in results["settings"]["metrics"] and results["n"] < FEW_IMAGES:
        found.append(
            f"rfid is of {results['n']} images: below {FEW_IMAGES:,} it is biased upward and "
            "compares with nothing else"
        )
    return found


def table(results: dict[str, Any]) -> str:
    """The results as a table of text."""
    metrics = results["settings"]["metrics"]
    lines = [["path", *metrics, "images"]]
    for path, values in results["paths"].items():
        cells = [values.get(metric, {}).get("value") for metric in metrics]
        shown = ["-" if value is None else f"{value:.4f}" for value in cells]
        lines.append([path, *shown, str(results["n"])])
    return text_table(lines)

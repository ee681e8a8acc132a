"""Images through a tokenizer into a store of latents: the work behind `dcht encode`.

The plan (`dcht.latents.Plan`) and the sorted list of inputs say which image is in which batch of
which shard. Whoever encodes a shard, here, in other processes or on other machines, writes the
same bytes; whoever finds that no shard is missing writes the manifest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from dcht.encode_job import Backend, EncodeSettings, Flip, Job, Precision, plan_encoding
from dcht.errors import UsageError
from dcht.images import Fit
from dcht.inputs import list_inputs
from dcht.latents import Manifest, Plan
from dcht.reader import Batch, Reader, split
from dcht.tokenizer import Tokenizer


class Encoded(NamedTuple):
    """What there is after a run."""

    images: int
    """Rows of the store, or, while it is not finished, those of this run."""
    skipped: int
    encoded: int
    """Inputs that this run went through itself."""
    missing: int
    """Shards that other runs still have to make; 0: the store is finished."""


def encode_images(
    tokenizer: Tokenizer,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: EncodeSettings,
    *,
    force: bool = False,
) -> Encoded:
    """Encode every image of some sources (see `list_inputs`) into a store (see `dcht.latents`).

    Interrupted work continues shard by shard; a finished store of the same plan is left alone.

    Args:
        tokenizer: in eval mode, with a quantizer and a known hash.
        sources: folders, tar archives, lists, or patterns of such.
        out: the store.
        settings: how.
        force: replace a store of another plan.

    Raises:
        UsageError: no images, `out` holds something else, or it cannot be written.
        CheckpointError: the tokenizer has no quantizer or no hash.
    """
    number, of = settings.part
    if force and of > 1:
        raise UsageError(
            f"--force with --shard {number}/{of} would remove what the other runs wrote; "
            f"remove {out} first"
        )
    entries = list_inputs(sources)
    plan = plan_encoding(tokenizer, entries, settings)
    job = Job(plan, entries, Path(out), settings.strict)
    mine = range(job.num_shards)[number::of]
    writer = job.writer(mine if of > 1 else None, force=force)
    if (finished := writer.finished) is not None:
        return _count(finished, encoded=0)
    todo = writer.missing(mine)
    inputs = job.count(todo)
    with tqdm(total=inputs, unit="img", desc="encode", disable=None) as progress:
        _run(job, tokenizer, todo, settings, progress.update)
    if missing := writer.missing():
        skipped = len(writer.skipped(mine))
        rows = (job.count(mine) - skipped) * (2 if settings.flip is Flip.both else 1)
        return Encoded(rows, skipped, inputs, len(missing))
    return _count(writer.finish(), encoded=inputs)


def _count(manifest: Manifest, *, encoded: int) -> Encoded:
    return Encoded(manifest.count, manifest.skipped, encoded, missing=0)


def _run(
    job: Job,
    tokenizer: Tokenizer,
    todo: Sequence[int],
    settings: EncodeSettings,
    progress: Callable[[int], Any],
) -> None:
    """Encode the shards `todo`, here or in workers."""
    if not todo:
        return
    if settings.backend is Backend.ray:
        from dcht.ray_workers import run_on_ray

        run_on_ray(job, tokenizer, todo, workers=settings.workers, progress=progress)
    elif settings.workers == 1:
        encode_shards(job, tokenizer, todo, progress)
    else:
        from dcht.workers import run_workers

        run_workers(job, tokenizer, todo, workers=settings.workers, progress=progress)


def encode_shards(
    job: Job, tokenizer: Tokenizer, shards: Sequence[int], progress: Callable[[int], Any]
) -> None:
    """Encode some shards of a job in this process; `progress` is told how many inputs are done."""
    plan = job.plan
    if torch.get_num_threads() != plan.threads:
        torch.set_num_threads(plan.threads)
    writer = job.writer(shards)
    parts = [split(job.inputs(shard), plan.batch_size) for shard in shards]
    reader = Reader((plan.width, plan.height), fit=Fit(plan.transform), captions=True,
                    strict=job.strict)  # fmt: skip
    batches = reader.batches(part for shard in parts for part in shard)
    for shard, in_shard in zip(shards, parts, strict=True):
        rows, errors = [], []
        indices = [torch.empty(0, plan.latent_height, plan.latent_width, dtype=torch.long)]
        residual = [torch.empty(0, plan.latent_channels, plan.latent_height, plan.latent_width)]
        for _ in in_shard:
            batch = next(batches)
            found = encode_batch(tokenizer, batch.images, plan)
            indices.append(found.indices.cpu())
            residual.append(found.residual.cpu())
            rows += _with_flips(batch, plan)
            errors += batch.errors
            progress(len(batch.rows) + len(batch.errors))
        writer.write(shard, rows, errors, torch.cat(indices), torch.cat(residual))


class Coded(NamedTuple):
    """indices (b, h, w) and residual (b, c, h, w) of a batch, each image followed by its flip."""

    indices: Tensor
    residual: Tensor


@torch.inference_mode()
def encode_batch(tokenizer: Tokenizer, images: Tensor, plan: Plan) -> Coded:
    """Encode images (b, 3, H, W) in [-1, 1] as a plan says; (2b, ...) with both flips.

    Raises:
        UsageError: the encoder overflows in the plan's precision, or has odd weights: z is not
            finite.
    """
    device = tokenizer.require_quantizer().codebook.device
    dtype = Precision(plan.precision).dtype
    views = [images, images.flip(-1)] if Flip(plan.flip) is Flip.both else [images]
    found = []
    for view in views if len(images) else ():
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            z = tokenizer.encode(view.to(device))
        z = z.float()
        if bad := int((~z.isfinite()).any(dim=(1, 2, 3)).sum()):
            raise UsageError(
                f"z of {bad} of {len(z)} images is NaN or infinite with --precision "
                f"{plan.precision}; bf16 and fp32 reach further than fp16"
            )
        indices, z_q = tokenizer.quantize(z)
        found.append(Coded(indices, z - z_q))
    if not found:
        h, w = plan.latent_height, plan.latent_width
        return Coded(torch.empty(0, h, w).long(), torch.empty(0, plan.latent_channels, h, w))
    indices, residual = (torch.stack(values) for values in zip(*found, strict=True))
    return Coded(
        rearrange(indices, "flip b h w -> (b flip) h w"),
        rearrange(residual, "flip b c h w -> (b flip) c h w"),
    )


def _with_flips(batch: Batch, plan: Plan) -> Iterator[dict[str, Any]]:
    for row in batch.rows:
        yield row
        if Flip(plan.flip) is Flip.both:
            yield {**row, "flip": True}


class Estimate(NamedTuple):
    """What encoding would take."""

    images: int
    problems: int
    """Inputs of which it shows before they are opened that they cannot be read."""
    shards: int
    bytes: int
    """Of the tensors; captions come on top."""
    seconds: float


def estimate(
    tokenizer: Tokenizer,
    sources: str | Path | Sequence[str | Path],
    settings: EncodeSettings,
) -> Estimate:
    """What encoding some sources would take in one process, from one timed batch; writes nothing.

    Raises:
        UsageError: no images.
        CheckpointError: the tokenizer has no quantizer or no hash.
    """
    entries = list_inputs(sources)
    plan = plan_encoding(tokenizer, entries, settings)
    good = [entry for entry in entries if not entry.problem]
    reader = Reader(settings.size, fit=settings.fit, captions=True)
    sample = good[: settings.batch_size]
    seconds = 0.0
    for _ in range(2 if sample else 0):  # the first time includes what is done once
        start = time.perf_counter()
        for batch in reader.batches([sample]):
            encode_batch(tokenizer, batch.images, plan).residual.cpu()
        seconds = (time.perf_counter() - start) * len(good) / len(sample)
    positions = plan.latent_height * plan.latent_width
    each = 2 * positions * (1 + plan.latent_channels) * (2 if settings.flip is Flip.both else 1)
    return Estimate(
        len(good),
        len(entries) - len(good),
        -(-len(entries) // plan.shard_size),
        len(good) * each,
        seconds / settings.workers,
    )

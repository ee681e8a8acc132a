"""Images through a tokenizer into a store of latents: the work behind `dcht encode`.

The plan (`dcht.latents.EncodePlan`) and the sorted list of inputs say which image is in which batch
of which shard. Whoever encodes a shard, here, in other processes or on other machines, writes the
same bytes; whoever finds that no shard is missing writes the manifest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, assert_never

from tqdm import tqdm

from dcht.data.entries import READERS, Entry, refuse_removing
from dcht.data.reader import Reader
from dcht.data.sources import Inputs, find_inputs
from dcht.errors import CheckpointError, UsageError
from dcht.latents.encode_job import Backend, EncodeSettings, Job, plan_encoding
from dcht.latents.encode_shards import encode_batch, encode_shards
from dcht.latents.kept import find_change, find_damage
from dcht.latents.shards import read_shard_rows
from dcht.latents.writer import LatentsWriter, store_files
from dcht.modules.compiled import compiled_forward
from dcht.reconstruct.fidelity import mean_psnr
from dcht.tokenizer import Tokenizer

LOOKED_AT = 8
"""Images, spread over the inputs, that are held against what comes back of them."""


class Encoded(NamedTuple):
    """Counts of what `encode_images` made and of what the store holds."""

    images: int
    """Rows of the store, or, while it is not finished, those of this run."""
    skipped: int
    encoded: int
    """Rows that this run made itself."""
    missing: int
    """Shards that other runs still have to make; 0: the store is finished."""
    captioned: int
    """Of the images those with a caption."""
    unread: list[str]
    """Files beside the images that look like captions or labels and were not read."""
    tables: list[str] = []  # noqa: RUF012  (of a named tuple)
    """Tables in folders that captions and labels were read from."""
    psnr: float | None = None
    """In dB, of some images as the tokenizer gives them back; None if this run encoded none, or
    the tokenizer's card names no PSNR to hold it against."""


def encode_images(
    tokenizer: Tokenizer,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: EncodeSettings,
    *,
    follow_links: bool = False,
    force: bool = False,
) -> Encoded:
    """Encode every image of some sources (see `list_inputs`) into a store (see `dcht.latents`).

    Interrupted work continues shard by shard; a finished store of the same plan is left alone.
    What is kept is what encoding the same inputs would make: a shard of which an image, its text or
    its fields have changed, or that is plainly damaged, is refused. With `force` it is made again,
    and so is each whose SHA-256 is not the manifest's. What lies in `out` is no input.

    Args:
        tokenizer: in eval mode, with a known hash; one without a quantizer gives its latents.
        sources: folders, tar archives, lists, or patterns of such.
        out: the store.
        settings: how.
        follow_links: whether links in folders may lead out of them.
        force: replace a store of another plan, or what has changed or is damaged of one of this.

    Raises:
        UsageError: no images, `out` holds something else or is damaged, an input has changed or,
            if it is to be strict, cannot be read; or `out` cannot be written.
        CheckpointError: the tokenizer has no hash.
    """
    number, of = settings.part
    if force and of > 1:
        raise UsageError(
            f"--force with --shard {number}/{of} would remove what the other runs wrote; "
            f"remove {out} first"
        )
    inputs = find_inputs(sources, follow_links=follow_links, out=out)
    entries = inputs.entries
    plan = plan_encoding(tokenizer, entries, settings)
    job = Job(plan, entries, Path(out), settings.strict)
    own = range(job.num_shards)[number::of]
    if force:
        refuse_removing(entries, store_files(job.out))
    writer = job.writer(own if of > 1 else None, force=force)
    _refuse_damaged(job, writer, force=force)
    _refuse_changed(job, writer, own, force=force)
    if settings.strict:
        _refuse_skipped(writer, own)
    if writer.finished is not None:
        return _count(writer, range(job.num_shards), [], inputs)
    todo = writer.missing(own)
    if todo:
        _note_idle(job, own, settings.workers)
    with tqdm(total=job.count(todo), unit="img", desc="encode", disable=None) as progress:
        _run(job, tokenizer, todo, settings, progress.update)
    if writer.missing():
        return _count(writer, own, todo, inputs)
    _refuse_changed(job, writer, sorted({*range(job.num_shards)} - {*own}), force=False)
    writer.finish()
    psnr = _look(tokenizer, entries, settings) if todo else None
    return _count(writer, range(job.num_shards), todo, inputs)._replace(psnr=psnr)


def _note_idle(job: Job, own: Sequence[int], workers: int) -> None:
    """Say on stderr that workers have no shard to make, and which size of a shard changes that."""
    inputs = job.count(own)
    busy = min(workers, inputs)
    if len(own) < busy:
        shards = f"{len(own)} shard{'s' * (len(own) != 1)}"
        more = f"--shard-size {inputs // busy} would keep {busy} busy"
        idle = workers - len(own)
        tqdm.write(f"note: {shards} for {workers} workers, {idle} idle; {more}", file=sys.stderr)


def _refuse_damaged(job: Job, writer: LatentsWriter, *, force: bool) -> None:
    """Refuse a finished store that is not what its manifest says; with `force` mend it.

    Reading all of a large store again takes long: hashes are compared with `force` alone.

    Raises:
        UsageError: it is not, and `force` is off.
        CheckpointError: nor can its manifest be read.
    """
    try:
        manifest = writer.finished
    except CheckpointError:
        if not force:
            raise
        writer.discard(range(job.num_shards))  # of which none can be known to be whole
        return
    if manifest is None:
        return
    damage = find_damage(job.out, manifest, hashes=force)
    if damage and not force:
        raise UsageError(
            f"{next(iter(damage.values()))}; dcht inspect looks at all of {job.out}, and --force "
            "makes what is damaged again"
        )
    if damage:
        writer.discard(shard for shard in damage if shard is not None)


def _refuse_skipped(writer: LatentsWriter, shards: Sequence[int]) -> None:
    """Stop at the first input that an earlier run skipped, as one that meets it now does.

    Raises:
        UsageError: there is one.
    """
    missing = set(writer.missing(shards))
    for shard in writer.shards(shard for shard in shards if shard not in missing):
        for row in shard.errors():
            raise UsageError(f"{row['file']}: {row['reason']}")


def _refuse_changed(job: Job, writer: LatentsWriter, shards: Sequence[int], *, force: bool) -> None:
    """Refuse shards that were made of what their inputs do not hold now; with `force` remove them.

    Raises:
        UsageError: there is one, and `force` is off.
    """
    missing = set(writer.missing(shards))
    stale = []
    for shard in (shard for shard in shards if shard not in missing):
        if change := find_change(job.out, shard, job.plan.shape, job.inputs(shard)):
            if not force:
                raise UsageError(f"{change}; use --force or another --out than {job.out}")
            stale.append(shard)
    if stale:
        writer.discard(stale)


def _count(
    writer: LatentsWriter, shards: Sequence[int], todo: Sequence[int], inputs: Inputs
) -> Encoded:
    """What there is in some shards, which are there, of which this run made some."""
    made = set(todo)
    images = skipped = encoded = captioned = 0
    for number, shard in zip(shards, writer.shards(shards), strict=True):
        images += shard.count
        skipped += len(shard.errors())
        encoded += shard.count if number in made else 0
        rows = read_shard_rows(writer.folder, number, shard.count)
        captioned += sum(row.get("caption") is not None for row in rows)
    missing = len(writer.missing())
    return Encoded(
        images, skipped, encoded, missing, captioned, inputs.unread, inputs.tables, psnr=None
    )


def _look(tokenizer: Tokenizer, entries: Sequence[Entry], settings: EncodeSettings) -> float | None:
    """PSNR in dB of some of the inputs as they come back, if there is something to hold it to."""
    if tokenizer.card_psnr is None or not entries:
        return None
    some = entries[:: max(1, len(entries) // LOOKED_AT)][:LOOKED_AT]
    for batch in Reader(settings.size, fit=settings.fit).batches([some]):
        if len(batch.images):
            return round(mean_psnr(tokenizer, batch.images), 2)
    return None


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
    match settings.backend:
        case Backend.ray:
            from dcht.latents.ray_workers import run_on_ray

            run_on_ray(job, tokenizer, todo, workers=settings.workers, progress=progress)
        case Backend.local if settings.workers == 1:
            encode_shards(job, tokenizer, todo, progress)
        case Backend.local:
            from dcht.latents.workers import run_workers

            run_workers(job, tokenizer, todo, workers=settings.workers, progress=progress)
        case _:
            assert_never(settings.backend)


class Estimate(NamedTuple):
    """What encoding would take."""

    images: int
    captioned: int
    """Of the images those with a caption."""
    problems: int
    """Inputs of which it shows before the images are opened that they cannot be read."""
    shards: int
    bytes: int
    """Of the tensors; captions come on top."""
    seconds: float
    unread: list[str]
    """Files beside the images that look like captions or labels and would not be read."""
    tables: list[str]
    psnr: float | None
    """See `Encoded`."""


def estimate(
    tokenizer: Tokenizer,
    sources: str | Path | Sequence[str | Path],
    settings: EncodeSettings,
    *,
    follow_links: bool = False,
    out: str | Path | None = None,
) -> Estimate:
    """What encoding some sources would take, from one timed batch; writes nothing.

    Of `settings.part` alone; the time is that of the worker who has most to do. What lies in `out`
    is no input, as when it is encoded.

    Raises:
        UsageError: no images.
        CheckpointError: the tokenizer has no hash.
    """
    entries, unread, tables = find_inputs(sources, follow_links=follow_links, out=out)
    plan = plan_encoding(tokenizer, entries, settings)
    job = Job(plan, entries, Path(), settings.strict)
    number, of = settings.part
    own = range(job.num_shards)[number::of]
    _note_idle(job, own, settings.workers)
    entries = [entry for shard in own for entry in job.inputs(shard)]
    with ThreadPoolExecutor(READERS) as pool:
        captioned = list(pool.map(_is_captioned, entries))
    good = [entry for entry, known in zip(entries, captioned, strict=True) if known is not None]
    reader = Reader(settings.size, fit=settings.fit, captions=True)
    sample = good[: settings.batch_size]
    seconds = 0.0
    with compiled_forward(tokenizer.encoder, enabled=plan.compiled):
        for _ in range(2 if sample else 0):  # the first time includes what is done once
            start = time.perf_counter()
            for batch in reader.batches([sample]):
                encode_batch(tokenizer, batch.images, plan)
            seconds = (time.perf_counter() - start) * len(good) / len(sample)
    workers = min(settings.workers, len(own))
    busiest = max((job.count(own[k::workers]) for k in range(workers)), default=0)
    positions = plan.latent_height * plan.latent_width
    indices = 0 if plan.codebook_size is None else 1
    each = 2 * positions * (indices + plan.latent_channels) * settings.flip.views
    return Estimate(
        len(good),
        captioned.count(True),
        len(entries) - len(good),
        len(own),
        len(good) * each,
        seconds * busiest / max(len(entries), 1),
        unread,
        tables,
        _look(tokenizer, good, settings),
    )


def _is_captioned(entry: Entry) -> bool | None:
    """Whether an input has a caption; None if it, or what stands beside it, cannot be read."""
    try:
        return entry.row()["caption"] is not None
    except UsageError:
        return None

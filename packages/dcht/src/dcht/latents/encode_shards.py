"""Shards of an encoding job, made in this process: what every worker of every backend does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from dcht.data.reader import Batch, Reader, split
from dcht.device import Precision
from dcht.errors import UsageError
from dcht.images import Fit
from dcht.latents import EncodePlan
from dcht.latents.encode_job import Flip, Job
from dcht.latents.kept import write_stamp
from dcht.latents.shards import ShardData
from dcht.modules.compiled import compiled_forward
from dcht.tokenizer import Tokenizer


def encode_shards(
    job: Job, tokenizer: Tokenizer, shards: Sequence[int], progress: Callable[[int], Any]
) -> None:
    """Encode shards of a job in this process; `progress` gets the number of inputs done."""
    plan = job.plan
    if torch.get_num_threads() != plan.threads:
        torch.set_num_threads(plan.threads)
    writer = job.writer(shards)
    parts = [split(job.inputs(shard), plan.batch_size) for shard in shards]
    reader = Reader((plan.width, plan.height), fit=Fit(plan.transform), captions=True,
                    strict=job.strict)  # fmt: skip
    batches = reader.batches(part for shard in parts for part in shard)
    with compiled_forward(tokenizer.encoder, enabled=plan.compiled):
        for shard, in_shard in zip(shards, parts, strict=True):
            rows, errors, digests = [], [], []
            found = [_nothing(plan)]
            for _ in in_shard:
                batch = next(batches)
                found.append(encode_batch(tokenizer, batch.images, plan))
                rows += _with_flips(batch, plan)
                errors += batch.errors
                digests += batch.sha256
                progress(len(batch.sha256))
            values = torch.cat([coded.values for coded in found])
            indices = [coded.indices for coded in found if coded.indices is not None]
            data = ShardData(rows, errors, torch.cat(indices) if indices else None, values, digests)
            writer.write(shard, data)
            write_stamp(job.out, shard, job.inputs(shard))


class Coded(NamedTuple):
    """A batch, each image followed by its flip, on the CPU."""

    indices: Tensor | None
    """(b, h, w); None: of a tokenizer without a codebook."""
    values: Tensor
    """The residual, or the latent where there are no indices, (b, c, h, w)."""


def _nothing(plan: EncodePlan) -> Coded:
    h, w = plan.latent_height, plan.latent_width
    indices = None if plan.codebook_size is None else torch.empty(0, h, w, dtype=torch.long)
    return Coded(indices, torch.empty(0, plan.latent_channels, h, w))


@torch.inference_mode()
def encode_batch(tokenizer: Tokenizer, images: Tensor, plan: EncodePlan) -> Coded:
    """Encode images (b, 3, H, W) in [-1, 1] as a plan says; (2b, ...) with both flips.

    Raises:
        UsageError: the encoder overflows in the plan's precision, or has damaged weights: z is not
            finite.
    """
    device = tokenizer.encoder.output.weight.device
    dtype = Precision(plan.precision).dtype
    views = [images, images.flip(-1)][: Flip(plan.flip).views]
    found = []
    for view in views if len(images) else ():
        view = _padded(view, plan.batch_size) if plan.compiled else view
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            z = tokenizer.encode(view.to(device))
        z = z[: len(images)].float()
        if bad := int((~z.isfinite()).any(dim=(1, 2, 3)).sum()):
            raise UsageError(
                f"z of {bad} of {len(z)} images is NaN or infinite with --precision "
                f"{plan.precision}; bf16 and fp32 reach further than fp16"
            )
        if plan.codebook_size is None:
            found.append(Coded(None, z.cpu()))
        else:
            indices, z_q = tokenizer.quantize(z)
            found.append(Coded(indices.cpu(), (z - z_q).cpu()))
    if not found:
        return _nothing(plan)
    indices = [coded.indices for coded in found if coded.indices is not None]
    values = torch.stack([coded.values for coded in found])
    return Coded(
        rearrange(torch.stack(indices), "flip b h w -> (b flip) h w") if indices else None,
        rearrange(values, "flip b c h w -> (b flip) c h w"),
    )


def _padded(images: Tensor, batch_size: int) -> Tensor:
    """Images (b, ...) repeated to a full batch: another shape would be compiled anew."""
    rows = torch.arange(batch_size) % len(images)
    return images if len(images) == batch_size else images[rows]


def _with_flips(batch: Batch, plan: EncodePlan) -> Iterator[dict[str, Any]]:
    """In a store of both flips `flip` is the store's word; a key of the user's gives way to it."""
    for row in batch.rows:
        if Flip(plan.flip).views == 2:
            plain = {key: value for key, value in row.items() if key != "flip"}
            yield plain
            yield {**plain, "flip": True}
        else:
            yield row

"""Shards of one encoding spread over a Ray cluster, or over this machine by Ray (extra `ray`).

The plan is made by whoever calls; Ray Data hands out numbers of shards. All machines must see the
inputs and the store under the same paths.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from dcht.errors import UsageError
from dcht.latents.encode_job import Job
from dcht.latents.encode_shards import encode_shards
from dcht.modules.compiled import compile_method
from dcht.tokenizer import Tokenizer


class EncodeShards:
    """What one Ray actor does: keeps a tokenizer and encodes the shards it is given."""

    def __init__(self, job: Any, tokenizer: Any) -> None:
        """Fetch the job and the tokenizer from Ray's store."""
        import ray

        self.job: Job = ray.get(job)
        loaded: Tokenizer = ray.get(tokenizer)  # type: ignore[assignment]
        self.tokenizer = loaded.to(self.job.plan.device)
        if self.job.plan.compiled:  # once, and not for each shard
            compile_method(self.tokenizer.encoder, "forward")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[int]]:
        """Encode the shards in column `shard`; gives how many inputs each covers."""
        done = []
        for shard in batch["shard"].tolist():
            encode_shards(self.job, self.tokenizer, [shard], lambda _: None)
            done.append(self.job.count([shard]))
        return {"inputs": done}


def run_on_ray(
    job: Job,
    tokenizer: Tokenizer,
    shards: Sequence[int],
    *,
    workers: int,
    progress: Callable[[int], Any],
) -> None:
    """Encode some shards in `workers` actors of the cluster RAY_ADDRESS names, or of a local one.

    Raises:
        UsageError: Ray is not installed, or a shard could not be encoded.
    """
    if find_spec("ray") is None:
        raise UsageError("--backend ray needs an extra: pip install 'dcht[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data
    from ray.exceptions import RayError

    ours = not ray.is_initialized()
    if ours:
        # One core more than there are actors, for the tasks that hand out shards: where actors fill
        # the machine, they would wait for each other for ever.
        cores = None if "RAY_ADDRESS" in os.environ else min(workers, len(shards)) + 1
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
    cuda = job.plan.device == "cuda"
    try:
        work = ray.data.from_items([{"shard": shard} for shard in shards])
        done = work.repartition(len(shards)).map_batches(
            EncodeShards,
            fn_constructor_args=(ray.put(job), ray.put(copy.deepcopy(tokenizer).cpu())),
            batch_size=1,
            concurrency=min(workers, len(shards)),
            num_cpus=None if cuda else 1,
            num_gpus=1 if cuda else None,
        )
        for row in done.iter_rows():
            progress(row["inputs"])
    except RayError as error:
        raise UsageError(f"ray: {str(error).strip().splitlines()[-1]}") from None
    finally:
        if ours:
            ray.shutdown()

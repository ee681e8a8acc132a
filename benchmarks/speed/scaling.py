"""The table of docs/scaling.md: three sizes on 8, 64 and 512 GPUs, computed as `plan=true` does.

    python benchmarks/speed/scaling.py --gpu h100

Nothing is trained and no GPU is asked for. A row takes the first way that fits: activations kept
before recomputed, DDP before FSDP2, few micro-batches before many.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from dcar.config import PRESETS, DCARConfig
from dcar.train.plan import work
from dcar.train_config import DataConfig, DataKind, TrainConfig
from dcht import PRESETS as TOKENIZERS
from dcht.engine.plan import GPUS, Cluster, Way, Work, ways

SIZES = {"671 M": (28, 1152, 16), "2 B": (32, 1920, 30), "8 B": (40, 3520, 55)}
"""Depth, width and heads; the residual head is the paper's in all of them."""
RANKS = (8, 64, 512)
LEAST = 8
"""Images at once below which a GPU would idle between kernels, where the batch has as many."""


def model(name: str) -> DCARConfig:
    """The published size, or a larger one of its shape."""
    depth, width, heads = SIZES[name]
    published = PRESETS["dcar_671m"]
    generator = replace(
        published.generator, depth=depth, width=width, num_heads=heads, mlp_dim=4 * width
    )
    return replace(
        published, generator=generator, head=replace(published.head, condition_dim=width)
    )


def pretraining(name: str) -> Work:
    """The paper's at 256 px: 200,000 steps of 1024 images."""
    return work(
        TrainConfig(
            model=model(name),
            tokenizer=TOKENIZERS["f32c32"],
            data=DataConfig(kind=DataKind.latents, root="x"),
            init_from="scratch",
            out="y",
            steps=200_000,
            batch_size=1024,
        )
    )


def first_that_fits(job: Work, cluster: Cluster) -> tuple[Work, Way] | None:
    """The work with as many micro-batches as it takes, and how it is held; None: nothing fits."""
    share = job.batch_size // cluster.gpus
    counts = [1 << power for power in range(share.bit_length())]
    for recomputed in (False, True):
        for name in ("DDP", "FSDP2"):
            for accumulate in counts:
                split = job._replace(accumulate=accumulate)
                if split.micro(cluster) < min(LEAST, share):
                    continue
                for way in ways(split, cluster):
                    if (way.name, way.recomputed) == (name, recomputed) and way.fits(cluster.kind):
                        return split, way
    return None


def row(name: str, job: Work, cluster: Cluster) -> str:
    """A line of the table."""
    found = first_that_fits(job, cluster)
    if found is None:
        return f"| {name} | {cluster.gpus} | does not fit | | | | | | |"
    split, way = found
    days = way.seconds * job.steps / 86400
    kept = "recomputed" if way.recomputed else "kept"
    return (
        f"| {name} | {cluster.gpus} | {way.name}, {kept} "
        f"| {split.micro(cluster)} x {split.accumulate} "
        f"| {way.memory:.1f} | {way.sent:.1f} | {way.computing:.3f}, {way.network:.3f} "
        f"| {days:,.2f} | {days * 24 * cluster.gpus:,.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gpu", choices=list(GPUS), default="h100")
    parser.add_argument("--utilization", type=float, default=0.4, help="of the data sheet [0.4]")
    words = parser.parse_args()
    print(
        "| model | GPUs | held by, activations | images at once | GB a GPU | GB sent a step "
        "| computing, sending (s) | days | GPU hours |\n|" + "---|" * 9
    )
    for name in SIZES:
        job = pretraining(name)
        for ranks in RANKS:
            print(row(name, job, Cluster(gpus=ranks, gpu=words.gpu, utilization=words.utilization)))


if __name__ == "__main__":
    main()

"""What a training would take on GPUs that are not here: `plan=true` of both trainers.

Nothing is allocated: networks run on fake tensors, which have shapes and no content. What is
computed, and what is left out, is in `docs/scaling.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, NamedTuple

from dcht.errors import UsageError
from dcht.ranges import SHARE, Range, check_ranges


class GPU(NamedTuple):
    """A kind of GPU, by its vendor's data sheet."""

    memory: float
    """GB."""
    flops: float
    """TFLOP/s of dense matrix products in bf16."""
    near: float
    """GB/s that one sends to others of its node (NVLink, a direction)..."""
    far: float
    """...and to other nodes: 200 Gb/s a GPU beside an A100, 400 Gb/s beside later ones."""


GPUS = {
    "a100": GPU(80, 312, 300, 25),
    "h100": GPU(80, 989, 450, 50),
    "h200": GPU(141, 989, 450, 50),
    "b200": GPU(180, 2250, 900, 50),
}
NODE = 8
"""GPUs of a node."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where a training is imagined."""

    gpus: Annotated[int, Range(1, 1 << 20)] = 8
    gpu: str = "a100"
    utilization: Annotated[float, SHARE] = 0.4
    """Share of the data sheet's FLOP/s that a step reaches."""

    def __post_init__(self) -> None:
        """Refuse a kind that is not known."""
        check_ranges(self)
        if self.gpu not in GPUS:
            raise UsageError(f"plan.gpu is {self.gpu!r}; expected one of {', '.join(GPUS)}")
        if not self.utilization:
            raise UsageError("plan.utilization is 0; a step would take for ever")

    @property
    def kind(self) -> GPU:
        """The GPU's numbers."""
        return GPUS[self.gpu]


def take_plan(words: list[str]) -> Cluster | None:
    """Take `plan=true` and its settings out of a command line; None: nothing is planned.

    Raises:
        UsageError: a value that is none, or settings of a plan without one.
    """
    own = [word for word in words if word.partition("=")[0].partition(".")[0] == "plan"]
    for word in own:
        words.remove(word)
    given = {key: value for key, _, value in (word.partition("=") for word in own)}
    wanted = given.pop("plan", None)
    if wanted not in ("true", "false", None):
        raise UsageError(f"plan is {wanted!r}; expected true or false")
    types = {"gpus": int, "gpu": str, "utilization": float}
    values = {}
    for key, text in given.items():
        name = key.removeprefix("plan.")
        if name not in types:
            known = ", ".join(f"plan.{one.name}" for one in fields(Cluster))
            raise UsageError(f"{key} is no setting; a plan has {known}")
        try:
            values[name] = types[name](text)
        except ValueError:
            raise UsageError(f"{key} is {text!r}, which is no number") from None
    if wanted != "true" and given:
        raise UsageError(f"{next(iter(given))} is of a plan; add plan=true")
    return Cluster(**values) if wanted == "true" else None


class Cost(NamedTuple):
    """What an image of a training batch takes, beside what a batch takes whatever its size."""

    flops: float
    """Forward and backward."""
    kept: float
    """Bytes that the backward pass needs, the largest where a step has several."""


def cost_of(step: Callable[[int], object], *, network: object) -> Cost:
    """What one image more costs, by running `step` on fake tensors with one image and with three.

    Args:
        step: a loss (a scalar) of a batch of so many images, whose backward pass is run, too.
        network: the `nn.Module` whose weights are not activations.
    """
    one, three = (_run(step, count, network) for count in (1, 3))
    return Cost(*((b - a) / 2 for a, b in zip(one, three, strict=True)))


def _run(step: Callable[[int], object], count: int, network: object) -> Cost:
    import torch
    from torch import Tensor, nn
    from torch.utils.flop_counter import FlopCounterMode

    assert isinstance(network, nn.Module)
    weights = {tensor.untyped_storage()._cdata for tensor in network.state_dict().values()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = step(count)
        assert isinstance(loss, Tensor)
        size = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in weights)
        loss.backward()
    return Cost(counter.get_total_flops(), size)


class Work(NamedTuple):
    """What a trainer has to do."""

    title: str
    parameters: dict[str, int]
    """Trained, by part."""
    frozen: int
    """Parameters that a rank holds besides."""
    image: Cost
    image_recomputed: Cost | None
    """The same with activation checkpointing; None where there is none."""
    batch_size: int
    accumulate: int
    steps: int
    shardable: bool
    """Whether the trainer knows FSDP2."""
    notes: Sequence[str]

    @property
    def trained(self) -> int:
        """All parameters that are trained."""
        return sum(self.parameters.values())

    def micro(self, cluster: Cluster) -> int:
        """Images at once on a GPU."""
        return self.batch_size // cluster.gpus // self.accumulate


BYTES = {"weights": 4, "gradients": 4, "Adam's moments": 8, "average (EMA)": 4}
"""Of a trained parameter, in fp32; beside it the bf16 copy that autocast keeps for the backward
pass, which FSDP2 does not shard."""
HALF = 2


class Way(NamedTuple):
    """One way to hold a model and its activations on every rank."""

    name: str
    """DDP or FSDP2."""
    recomputed: bool
    """Activations, in the backward pass; else they are kept."""
    states: dict[str, float]
    """GB of weights and what belongs to them, by name."""
    activations: float
    """GB."""
    memory: float
    """GB in all."""
    sent: float
    """GB a rank and step."""
    network: float
    """Seconds of sending."""
    computing: float
    """Seconds of a step."""

    @property
    def seconds(self) -> float:
        """Of a step: computing and sending overlap."""
        return max(self.computing, self.network)

    def fits(self, kind: GPU) -> bool:
        """A tenth is left for what is not counted."""
        return self.memory < 0.9 * kind.memory


def ways(work: Work, cluster: Cluster) -> list[Way]:
    """DDP, then FSDP2 where the trainer knows it; activations kept, then recomputed.

    Raises:
        UsageError: a batch that the GPUs cannot share.
    """
    ranks, kind = cluster.gpus, cluster.kind
    if work.batch_size % (ranks * work.accumulate):
        raise UsageError(
            f"batch_size {work.batch_size} is not a multiple of accumulate {work.accumulate} times "
            f"{ranks} GPUs"
        )
    trained = work.trained
    halves = HALF * (trained + work.frozen) / 1e9
    # A ring crosses from node to node over all adapters of a node, a share of the data on each.
    rate = kind.near if ranks <= NODE else min(kind.near, NODE * kind.far)
    found = []
    for name, shards, size in (
        ("DDP", 1, 2 * 4 * trained),
        ("FSDP2", ranks, (8 * work.accumulate + 4) * trained),
    )[: 2 if work.shardable else 1]:
        states = {key: each * trained / shards / 1e9 for key, each in BYTES.items()}
        sent = size * (ranks - 1) / ranks / 1e9
        for image in (work.image, work.image_recomputed):
            if image is not None:
                activations = image.kept * work.micro(cluster) / 1e9
                flops = image.flops * work.batch_size / ranks
                found.append(
                    Way(
                        name=name,
                        recomputed=image is work.image_recomputed,
                        states=states,
                        activations=activations,
                        memory=sum(states.values()) + halves + activations,
                        sent=sent,
                        network=sent / rate,
                        computing=flops / (kind.flops * 1e12 * cluster.utilization),
                    )
                )
    return found


def describe(work: Work, cluster: Cluster) -> str:
    """The plan as text.

    Raises:
        UsageError: a batch that the GPUs cannot share.
    """
    found, kind = ways(work, cluster), cluster.kind
    parts = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in work.parameters.items())
    lines = [
        f"{work.title} on {cluster.gpus} x {cluster.gpu} "
        f"({kind.memory:g} GB, {kind.flops:g} TFLOP/s)",
        f"parameters          {work.trained / 1e6:,.1f} M trained ({parts}), "
        f"{work.frozen / 1e6:,.1f} M frozen",
        f"a step              {work.batch_size:,} images, {work.micro(cluster)} at once on a GPU, "
        f"{work.image.flops * work.batch_size / 1e15:,.2f} PFLOP",
    ]
    for way in found:
        if not way.recomputed:
            each = ", ".join(f"{key} {size:.2f}" for key, size in way.states.items())
            copies = HALF * work.trained / 1e9
            lines.append(f"memory, {way.name:5}       {each}, bf16 copies {copies:.2f} GB")
        how = "recomputed" if way.recomputed else "kept"
        lines.append(
            f"  activations {how:10} {way.activations:,.2f} GB: {way.memory:,.1f} GB in all, "
            f"{'fits' if way.fits(kind) else 'does not fit'}"
        )
    lines += [
        f"network, {way.name:5}      {way.sent:,.2f} GB a rank and step, {way.network:.3f} s"
        for way in found
        if not way.recomputed
    ]
    step = found[0].seconds
    days, images = step * work.steps / 86400, work.steps * work.batch_size / 1e6
    lines += [
        f"time a step         {step:.3f} s at {cluster.utilization:.0%} of the data sheet "
        f"(computing {found[0].computing:.3f} s; DDP sends meanwhile)",
        f"the whole recipe    {work.steps:,} steps, {images:,.1f} M images: {days:,.2f} days, "
        f"{days * 24 * cluster.gpus:,.0f} GPU hours",
        *work.notes,
    ]
    return "\n".join(lines)

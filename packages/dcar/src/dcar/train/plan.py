"""What a run of `dcar-train` would take: `plan=true` (`dcht.engine.plan`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dcar.config import DCARConfig, GeneratorConfig
from dcar.masking import mask_ratio
from dcar.model import DCAR
from dcar.modules.t5 import T5Encoder
from dcar.modules.transformer import position_table
from dcar.train_config import DataConfig, DataKind, SourceConfig, TrainConfig
from dcht.config import parse_size
from dcht.engine.plan import Cluster, Cost, Work, cost_of, describe
from dcht.errors import UsageError
from dcht.latents import MANIFEST, read_manifest

T5_BASE = 109_628_544
"""Parameters of T5-base's encoder."""
ROW = 150
"""Bytes of an image's row beside its latents: name and caption."""

Grid = tuple[int, int]
"""(h, w) of an image's indices."""


def plan(config: TrainConfig, cluster: Cluster) -> str:
    """The plan of a run as text.

    Raises:
        UsageError: a batch that the GPUs cannot share, or LoRA.
    """
    return describe(work(config), cluster)


def work(config: TrainConfig) -> Work:
    """What a run has to do, found on fake tensors."""
    if config.lora.rank:
        raise UsageError(
            f"lora.rank is {config.lora.rank}: a plan is of a run that trains all weights, which "
            "takes more; leave lora out"
        )
    model, factor = config.model, config.tokenizer.downsampling
    sizes = sizes_of(config.data)
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    grid = (height // factor, width // factor)
    positions = grid[0] * grid[1]
    pixels = f"{width} px" if width == height else f"{width} x {height} px"
    with FakeTensorMode():
        parameters = {
            name: sum(p.numel() for p in part.parameters())
            for name, part in _build(model).named_children()
        }
    masked = positions
    if config.loss.unmasked_weight == 0:
        progress = (torch.arange(1000) + 0.5) / 1000
        masked = round(positions * float(mask_ratio(progress, config.mask_schedule).mean()))
    image, again = costs(model, grid, masked)
    frozen = 0 if model.text.joint or model.text.classes else T5_BASE
    latent = 2 * positions * (1 + (0 if model.discrete_only else config.tokenizer.latent_channels))
    notes = [f"latents             {(latent + ROW) / 1e3:,.1f} GB a million images of {pixels}"]
    if absent := [store for store in _stores(config.data) if not _has_manifest(store)]:
        notes.append(f"not there yet       {', '.join(absent)}: counted as {pixels}")
    if len(sizes) > 1:
        notes.append(f"all that at most    {pixels} is the largest of {len(sizes)} sizes")
    if frozen:
        text = 2 * frozen * model.generator.text_length / image.flops
        notes.append(f"beside it           T5-base, {text:.1%} more FLOPs; text_cache spares them")
    if config.data.kind is not DataKind.latents:
        notes.append("beside it           images are encoded on the fly; dcht encode spares that")
    return Work(
        title=f"dcar-train, {pixels}, {positions} tokens",
        parameters=parameters,
        frozen=frozen,
        image=image._replace(flops=again.flops) if config.activation_checkpointing else image,
        image_recomputed=again,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        steps=config.steps,
        shardable=True,
        notes=notes,
    )


def sizes_of(data: DataConfig) -> list[tuple[int, int]]:
    """The sizes (width, height) in pixels that a run shows, each once.

    Those of a store of latents are its manifest's, if it is there already.
    """
    found: dict[tuple[int, int], None] = {}
    for source in (data, *data.mixture):
        store = _store(source)
        sizes = [parse_size(size) for size in data.buckets]
        if store is not None and _has_manifest(store):
            stored = read_manifest(Path(store)).plan
            sizes = [(stored.width, stored.height)]
        found |= dict.fromkeys(sizes or [(data.size, data.size)])
    return list(found)


def _store(source: SourceConfig) -> str | None:
    return source.root if source.kind is DataKind.latents else source.latents


def _stores(data: DataConfig) -> list[str]:
    return [store for source in (data, *data.mixture) if (store := _store(source)) is not None]


def _has_manifest(store: str) -> bool:
    return (Path(store) / MANIFEST).is_file()


def costs(model: DCARConfig, grid: Grid, masked: int, *, bf16: bool = True) -> tuple[Cost, Cost]:
    """What an image costs with activations kept, and with those of the blocks computed again.

    By models of one and two blocks, as every block costs the same.
    """
    shallow, deep = (_cost(model, depth, grid, masked, bf16=bf16) for depth in (1, 2))
    flops, kept = (b - a for a, b in zip(shallow, deep, strict=True))
    more = model.generator.depth - 1
    entering = grid[0] * grid[1] * model.generator.width * (2 if bf16 else 4)
    return (
        Cost(shallow.flops + more * flops, shallow.kept + more * kept),
        # A third of a block's FLOPs is its forward pass, which runs twice then.
        Cost(
            shallow.flops + more * flops + (more + 1) * flops / 3,
            shallow.kept + (more + 1) * entering,
        ),
    )


def _cost(model: DCARConfig, depth: int, grid: Grid, masked: int, *, bf16: bool) -> Cost:
    model = replace(model, generator=replace(model.generator, depth=depth))
    # Kept by who computes it: a fake one would be found there by networks that compute.
    config = model.generator
    position_table(*grid, config.width, config.position_extent, torch.device("cpu"))
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    with FakeTensorMode(allow_non_fake_inputs=True), autocast:
        network = _build(model)
        return cost_of(lambda count: loss(network, count, grid, masked), network=network)


def _build(model: DCARConfig) -> torch.nn.ModuleDict:
    """The trained networks; in eval mode, as fused attention keeps no mask of its dropout."""
    network = DCAR(model)
    parts: dict[str, torch.nn.Module] = {"transformer": network.generator}
    if network.head is not None:
        parts["head"] = network.head
    if (joint := model.text.joint) is not None:
        parts["text encoder"] = T5Encoder(
            vocabulary=joint.vocabulary, width=model.generator.text_dim, depth=joint.depth,
            num_heads=joint.num_heads, positions=joint.positions,
        )  # fmt: skip
    return torch.nn.ModuleDict(parts).eval()


def loss(network: torch.nn.ModuleDict, count: int, grid: Grid, masked: int) -> Tensor:
    """The loss of `DCAR.forward` with as many masked positions in every image."""
    generator: Any = network["transformer"]
    config: GeneratorConfig = generator.config
    mask = torch.ones(count, config.text_length, dtype=torch.long)
    text = torch.randn(count, config.text_length, config.text_dim)
    if "text encoder" in network:
        encoder: Any = network["text encoder"]
        text = encoder(input_ids=mask, attention_mask=mask).last_hidden_state
    indices = torch.zeros(count, *grid, dtype=torch.long)
    hidden = generator.encode(indices, generator.embed_text(text, mask))
    logits = rearrange(generator.predict(hidden[:, :masked]).float(), "b m k -> (b m) k")
    total = F.cross_entropy(logits, torch.zeros(count * masked, dtype=torch.long))
    if "head" not in network:
        return total
    head: Any = network["head"]
    positions = grid[0] * grid[1]
    rows = head.config.batch_mul * count * positions
    return total + head.loss(
        torch.randn(count, positions, head.config.latent_channels),
        hidden,
        t=torch.zeros(rows, dtype=torch.long),
        noise=torch.randn(rows, head.config.latent_channels),
    )

"""Sampling an image: unmask its indices step by step, then sample the residual (Fig. 5, App. A.2).

Pure functions without I/O. Every step samples all hidden indices, keeps the most confident of them
and hides the rest again; the number kept follows the mask schedule. The hidden states of the last
step condition the residual head. # not in paper: the semantics of sampling, confidence and guidance
are 1d-tokenizer's, whose names for them the paper uses, and the published release's.

Noise is sampled for each image from its own generator, never for a batch, so an image does not
depend on its neighbors. Shapes: b images, h w grid, n = h w, k codes, d width, c latent channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from dcar.config import SamplingConfig, Solver
from dcar.masking import lowest
from dcar.modules.diffusion_head import Budget, HeadNoise
from dcar.modules.packed import laid_out
from dcar.randomness import Generators, per_image
from dcar.sampling.fts import select
from dcar.sampling.guidance import (
    guidance_context,
    guided_logits,
    head_scale,
    last_step_scale,
    step_scale,
)
from dcar.sampling.models import Context, MaskedModel, ResidualHead
from dcar.sampling.orders import Signals, plan_steps
from dcht.errors import UsageError


class StepNoise(NamedTuple):
    """Uniform in [0, 1), of one step: for the indices (b, n, k), for the order (b, n)."""

    indices: Tensor
    order: Tensor


class Step(NamedTuple):
    """What one step of the loop made."""

    indices: Tensor
    """(b, h, w), `mask_id` where still hidden; complete after the last step."""
    sampled: Tensor
    """(b, h, w): the candidates as sampled, before some were hidden again."""
    hidden: Tensor
    """(b, n, d); if the step was guided (2b, n, d), the conditional rows first."""
    candidates: Tensor
    """(b, h, w) boolean: the positions it sampled."""
    logits: Tensor
    """(p, k) of the p candidates, image by image; guided and annealed."""


class Indices(NamedTuple):
    """Sampled indices (b, h, w), and the hidden states of the last step for the residual head."""

    indices: Tensor
    hidden: Tensor


def sample_indices(
    model: MaskedModel[Context],
    text: Tensor,
    text_mask: Tensor,
    *,
    grid: tuple[int, int],
    config: SamplingConfig,
    generators: Generators | None = None,
    noise: Sequence[StepNoise] | None = None,
    start: Tensor | None = None,
) -> Indices:
    """Draw all indices; the arguments are those of `unmask`."""
    *_, last = unmask(
        model, text, text_mask, grid=grid, config=config, generators=generators, noise=noise,
        start=start,
    )  # fmt: skip
    return Indices(last.indices, last.hidden)


def unmask(
    model: MaskedModel[Context],
    text: Tensor,
    text_mask: Tensor,
    *,
    grid: tuple[int, int],
    config: SamplingConfig,
    generators: Generators | None = None,
    noise: Sequence[StepNoise] | None = None,
    start: Tensor | None = None,
) -> Iterator[Step]:
    """The unmasking loop, one `Step` at a time.

    Args:
        model: the masked transformer, in eval mode.
        text: (b, l, e) prompt embeddings.
        text_mask: (b, l).
        grid: (h, w).
        config: steps, guidance, temperature, order, schedule.
        generators: source of the noise, on the CPU.
        noise: recorded variates, one a step, instead of it.
        start: (b, h, w) indices to keep, `mask_id` where to sample; None: sample everything. Images
            may have different numbers of hidden indices.

    Raises:
        ValueError: neither noise nor generators, or too few of them.
    """
    images, (height, width) = len(text), grid
    mask_id = model.mask_id
    if noise is None and generators is None:
        raise ValueError("sampling needs generators or recorded noise")
    sources = None if generators is None else per_image(generators, images)
    scales = [step_scale(config, step) for step in range(config.num_steps)]
    both = guidance_context(model, text, text_mask, guided=any(scales))
    conditional = model.first_rows(both, images)
    first = None
    everything = torch.ones(images, height * width, dtype=torch.bool)
    if start is None:
        start = torch.full((images, height, width), mask_id, device=text.device)
    else:
        everything = rearrange(start == mask_id, "b h w -> b (h w)").cpu()
    indices = rearrange(start, "b h w -> b (h w)")
    plan = plan_steps(everything, grid=grid, config=config, device=text.device)

    with laid_out(model):
        for step, (scale, planned) in enumerate(zip(scales, plan, strict=True)):
            progress = (step + 1) / config.num_steps
            variates = (
                noise[step]
                if noise is not None
                else sample_step_noise(sources or [], height * width, mask_id)
            )
            variates = StepNoise(*(_sent(uniform, text.device) for uniform in variates))

            guided = (both, 2) if scale else (conditional, 1)
            hidden = _encode(model, indices, grid, *guided)
            masked = indices == mask_id
            candidates = masked & planned.stage
            rows = _rows(candidates, planned.sampled)
            # Logits are the widest tensor here: they are computed where something is sampled, only.
            logits = guided_logits(model, hidden, rows, scale)
            if config.logit_annealing:
                logits = logits / (0.5 + 0.8 * (1 - progress))

            choice, confidence = _sample(logits, variates, candidates, rows, config, progress)
            sampled = indices.masked_scatter(candidates, choice)
            first = variates.order if first is None else first
            scores = planned.scores(Signals(first, variates.order, confidence))
            # What is known is never hidden again, and other stages stay hidden.
            again = lowest(scores.masked_fill(~candidates, float("inf")), planned.left)
            indices = sampled.masked_fill(again | (masked & ~planned.stage), mask_id)
            if config.extra_pass and step + 1 == config.num_steps:
                hidden = _encode(model, indices, grid, *guided)
            yield Step(
                rearrange(indices, "b (h w) -> b h w", h=height),
                rearrange(sampled, "b (h w) -> b h w", h=height),
                hidden,
                rearrange(candidates, "b (h w) -> b h w", h=height),
                logits,
            )


def sample_residual(
    head: ResidualHead,
    hidden: Tensor,
    *,
    config: SamplingConfig,
    generators: Generators | None = None,
    noise: HeadNoise | None = None,
    to_logits: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Draw the residual of every position.

    Args:
        head: the residual head.
        hidden: what `sample_indices` returned: (b, n, d), or (2b, n, d) with guidance.
        config: guidance, number of diffusion steps, solver.
        generators: source of the noise, on the CPU.
        noise: recorded variates instead of it.
        to_logits: the model's `predict`, which `Selector.entropy` needs.

    Returns:
        (b, n, c), to be added to the codes.

    Raises:
        ValueError: neither noise nor generators.
        UsageError: the head does not take the solver.
    """
    if config.solver not in head.solvers:
        known = ", ".join(solver.value for solver in Solver if solver in head.solvers)
        raise UsageError(f"solver {config.solver.value} is none of this head's; use {known}")
    conditional = hidden.chunk(2)[0] if last_step_scale(config) else hidden
    scale = head_scale(config)
    if noise is None:
        if generators is None:
            raise ValueError("sampling needs generators or recorded noise")
        noise = sample_head_noise(
            per_image(generators, len(conditional)), head, hidden.shape[1], config
        )
    budget = None
    if config.fts is not None:
        # The start's first channel is as random as any number, and recorded with the rest.
        variates = noise.start[..., 0].to(hidden.device)
        share, fts = config.fts_share, config.fts
        long = select(fts, conditional, share=share, variates=variates, to_logits=to_logits)
        budget = Budget(long, config.fts_steps)
    with laid_out(head):
        return head.sample(
            hidden if scale else conditional,
            config.num_diffusion_steps,
            scale,
            noise=noise,
            solver=config.solver,
            temperature=config.head_temperature,
            budget=budget,
        )


def sample_step_noise(sources: Sequence[torch.Generator], n: int, codes: int) -> StepNoise:
    """The variates of a step, each image's from its own generator."""
    return StepNoise(
        torch.stack([torch.rand(n, codes, generator=source) for source in sources]),
        torch.stack([torch.rand(n, generator=source) for source in sources]),
    )


def sample_head_noise(
    sources: Sequence[torch.Generator], head: ResidualHead, n: int, config: SamplingConfig
) -> HeadNoise:
    """The variates of the residual head, each image's from its own generator."""
    shape = (n, head.latent_channels)
    steps = config.num_diffusion_steps if config.solver.adds_noise else 0
    starts = [torch.randn(shape, generator=source) for source in sources]
    noises = [torch.randn((steps, *shape), generator=source) for source in sources]
    return HeadNoise(torch.stack(starts), torch.stack(noises, dim=1))


def _encode(
    model: MaskedModel[Context],
    indices: Tensor,
    grid: tuple[int, int],
    context: Context,
    branches: int,
) -> Tensor:
    """Hidden states of indices (b, n), once for each branch that the context has."""
    rows = rearrange(indices, "b (h w) -> b h w", h=grid[0])
    return model.encode(torch.cat([rows] * branches), context)


def _sent(variates: Tensor, device: torch.device) -> Tensor:
    """Variates on the device; to a GPU they travel while it works on what it has."""
    if device.type == "cuda" and variates.device.type == "cpu":
        variates = variates.pin_memory()
    return variates.to(device, non_blocking=True)


def _rows(candidates: Tensor, count: int) -> Tensor:
    """The numbers (p,) of the candidates among all b n positions.

    There are `count` of them, which is known: a boolean index would wait for the device to count.
    """
    flat = rearrange(candidates, "b n -> (b n)")
    return rearrange(flat.nonzero_static(size=count), "p 1 -> p")


def _sample(
    logits: Tensor,
    variates: StepNoise,
    candidates: Tensor,
    rows: Tensor,
    config: SamplingConfig,
    progress: float,
) -> tuple[Tensor, Tensor]:
    """An index for each candidate (p,), and the confidence in it at its place (b, n)."""
    final = config.final_temperature
    temperature = final + (config.temperature - final) * (1 - progress)
    choice = (
        logits + temperature * _gumbel(rearrange(variates.indices, "b n k -> (b n) k")[rows])
    ).argmax(dim=1)
    scale = config.confidence_temperature
    scale = (config.temperature if scale is None else scale) * (1 - progress)
    chosen = rearrange(logits.gather(1, rearrange(choice, "p -> p 1")), "p 1 -> p")
    confidence = chosen + scale * _gumbel(rearrange(variates.order, "b n -> (b n)")[rows])
    return choice, torch.zeros_like(variates.order).masked_scatter(candidates, confidence)


def _gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform variates."""
    return -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()

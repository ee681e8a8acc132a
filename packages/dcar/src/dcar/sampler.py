"""Drawing an image: unmask the indices step by step, then draw the residual (Fig. 5, App. A.2).

Pure functions without I/O. Every step draws all hidden indices, keeps the most confident of them
and hides the rest again; the number kept follows the mask schedule. The hidden states of the last
step condition the residual head. # not in paper: the semantics of draw, confidence and guidance are
1d-tokenizer's, whose names for them the paper uses, and the published release's.

Noise is drawn for each image from its own generator, never for a batch, so an image does not depend
on its neighbours. Shapes: b images, h w grid, n = h w, k codes, d width, c latent channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from dcar.config import Order, SamplingConfig
from dcar.diffusion_head import DiffusionHead, HeadNoise
from dcar.masking import lowest, masked_counts
from dcar.randomness import Generators, per_image
from dcar.transformer import Generator, TextContext


class StepNoise(NamedTuple):
    """The uniform draws in [0, 1) of one step: for the indices (b, n, k), for the order (b, n)."""

    indices: Tensor
    order: Tensor


class Step(NamedTuple):
    """What one step of the loop made."""

    indices: Tensor
    """(b, h, w), `mask_id` where still hidden; complete after the last step."""
    drawn: Tensor
    """(b, h, w), before some were hidden again."""
    hidden: Tensor
    """(b, n, d); with guidance (2b, n, d), the conditional rows first."""
    logits: Tensor
    """(b, n, k), guided and annealed."""


class Indices(NamedTuple):
    """Sampled indices (b, h, w), and the hidden states of the last step for the residual head."""

    indices: Tensor
    hidden: Tensor


def sample_indices(
    generator: Generator,
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
        generator, text, text_mask, grid=grid, config=config, generators=generators, noise=noise,
        start=start,
    )  # fmt: skip
    return Indices(last.indices, last.hidden)


def unmask(
    generator: Generator,
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
        generator: the masked transformer, in eval mode.
        text: (b, l, e) prompt embeddings.
        text_mask: (b, l).
        grid: (h, w).
        config: steps, guidance, temperature, order, schedule.
        generators: source of the noise, on the CPU.
        noise: recorded draws, one a step, instead of it.
        start: (b, h, w) indices to keep, `mask_id` where to draw; None: everything is drawn. Images
            may have different numbers of hidden indices.

    Raises:
        ValueError: neither noise nor generators, or too few of them.
    """
    images, (height, width) = len(text), grid
    mask_id, codes = generator.mask_id, generator.config.codebook_size
    if noise is None and generators is None:
        raise ValueError("sampling needs generators or recorded noise")
    sources = None if generators is None else per_image(generators, images)
    context = guidance_context(generator, text, text_mask, config.cfg_scale)
    if start is None:
        start = torch.full((images, height, width), mask_id, device=text.device)
    indices = rearrange(start, "b h w -> b (h w)")
    num_masked = (indices == mask_id).sum(dim=1).tolist()
    n = height * width
    # counts[b][s]: how many indices of image b stay hidden after step s.
    counts = [masked_counts(n, m, config.num_steps, config.schedule) for m in num_masked]

    for step in range(config.num_steps):
        progress = (step + 1) / config.num_steps
        temperature = config.temperature * (1 - progress)
        draws = noise[step] if noise is not None else draw_step(sources or [], n, codes)
        gumbel = StepNoise(*(_gumbel(uniform.to(text.device)) for uniform in draws))

        rows = rearrange(indices, "b (h w) -> b h w", h=height)
        if config.cfg_scale:
            rows = torch.cat([rows, rows])
        logits, hidden = generator(rows, context=context)
        logits = _guide(logits.float(), config.cfg_scale)
        if config.logit_annealing:
            logits = logits / (0.5 + 0.8 * (1 - progress))

        masked = indices == mask_id
        choice = (logits + temperature * gumbel.indices).argmax(dim=2)
        drawn = torch.where(masked, choice, indices)
        if config.order is Order.random:
            confidence = gumbel.order
        else:
            chosen = rearrange(logits.gather(2, rearrange(choice, "b n -> b n 1")), "b n 1 -> b n")
            confidence = chosen + temperature * gumbel.order
        # What is known is never hidden again.
        confidence = confidence.masked_fill(~masked, float("inf"))
        hide = torch.tensor([image[step] for image in counts], device=text.device)
        indices = drawn.masked_fill(lowest(confidence, hide), mask_id)
        yield Step(
            rearrange(indices, "b (h w) -> b h w", h=height),
            rearrange(drawn, "b (h w) -> b h w", h=height),
            hidden,
            logits,
        )


def sample_residual(
    head: DiffusionHead,
    hidden: Tensor,
    *,
    config: SamplingConfig,
    generators: Generators | None = None,
    noise: HeadNoise | None = None,
) -> Tensor:
    """Draw the residual of every position.

    Args:
        head: the diffusion head.
        hidden: what `sample_indices` returned: (b, n, d), or (2b, n, d) with guidance.
        config: guidance (the same as for the logits) and number of diffusion steps.
        generators: source of the noise, on the CPU.
        noise: recorded draws instead of it.

    Returns:
        (b, n, c), to be added to the codes.

    Raises:
        ValueError: neither noise nor generators.
    """
    if noise is None:
        if generators is None:
            raise ValueError("sampling needs generators or recorded noise")
        images = len(hidden) // 2 if config.cfg_scale else len(hidden)
        shape = (hidden.shape[1], head.config.latent_channels)
        sources = per_image(generators, images)
        starts = [torch.randn(shape, generator=source) for source in sources]
        steps = [
            torch.randn((config.num_diffusion_steps, *shape), generator=source)
            for source in sources
        ]
        noise = HeadNoise(torch.stack(starts), torch.stack(steps, dim=1))
    return head.sample(hidden, config.num_diffusion_steps, config.cfg_scale, noise=noise)


def guidance_context(
    generator: Generator, text: Tensor, text_mask: Tensor, cfg_scale: float
) -> TextContext:
    """The text's keys and values; with guidance those of the null caption after them.

    The null half keeps the prompt's own mask (PixArt-alpha), so it depends on the prompt's length.
    """
    if cfg_scale:
        everything = torch.ones(len(text), dtype=torch.bool, device=text.device)
        text = torch.cat([text, generator.drop_text(text, everything)])
        text_mask = torch.cat([text_mask, text_mask])
    return generator.embed_text(text, text_mask)


def draw_step(sources: Sequence[torch.Generator], n: int, codes: int) -> StepNoise:
    """The draws of a step, each image's from its own generator."""
    return StepNoise(
        torch.stack([torch.rand(n, codes, generator=source) for source in sources]),
        torch.stack([torch.rand(n, generator=source) for source in sources]),
    )


def _guide(logits: Tensor, cfg_scale: float) -> Tensor:
    """(1 + s) conditional - s unconditional; the rows of both are stacked where s is not 0."""
    if not cfg_scale:
        return logits
    conditional, unconditional = logits.chunk(2)
    return (1 + cfg_scale) * conditional - cfg_scale * unconditional


def _gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform draws."""
    return -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()

"""Prompt to image: text, indices, residual, pixels, in this order and nothing else (Fig. 5).

An edit goes the same way with some of the tokens given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from dcar.config import Rounding
from dcar.model import DCAR
from dcar.modules.condition import Condition
from dcar.pipeline.edit import Canvas, Edit, encode_edits, token_grid
from dcar.pipeline.results import StepPreview
from dcar.randomness import keyed_generator
from dcar.sampler import Step, sample_residual, unmask
from dcar.sampling_config import SamplingConfig
from dcht.errors import UsageError
from dcht.images import to_pil
from dcht.ranges import require_whole
from dcht.tokenizer import Tokenizer


@dataclass
class Parts:
    """What a prompt goes through, all of it on one device."""

    text: Condition
    model: DCAR
    tokenizer: Tokenizer
    rounding: Rounding = Rounding.nearest
    """How pixels become bytes."""


@torch.inference_mode()
def generate_batch(
    parts: Parts,
    prompts: Sequence[str],
    *,
    settings: SamplingConfig,
    size: tuple[int, int],
    seed: int,
    first_index: int = 0,
    previews: bool = True,
    edits: Sequence[Edit] | None = None,
    stepped: Callable[[], object] | None = None,
) -> Iterator[StepPreview]:
    """Generate an image of each prompt, in one batch; the finished images come last.

    Args:
        parts: what they go through.
        prompts: one an image, taken as they are: `TextToImage.screen` comes before.
        settings: how to sample.
        size: (height, width) in pixels.
        seed: not negative.
        first_index: number of the first image; the noise of each depends on (seed, number).
        previews: whether to decode and yield what each step made.
        edits: one an image, with results of this size; None: all tokens are generated.
        stepped: called after every step, and once after the residual and the decoder.

    Raises:
        UsageError: a side that is not a multiple of 32, a negative seed, or a prompt that is not
            text.
    """
    grid = token_grid(*size, parts.tokenizer.config.downsampling)
    check_text(prompts)
    require_whole(seed=seed, first_index=first_index)
    if seed < 0:
        raise UsageError(f"seed is {seed}; it must not be negative")
    generator, head = parts.model.generator, parts.model.head
    device = generator.null_text.device
    ids, mask = (part.to(device) for part in parts.text.tokenize(prompts))
    if first_index < 0:
        raise UsageError(f"first_index {first_index} is negative; 0 or more")
    numbers = range(first_index, first_index + len(prompts))
    sources = [keyed_generator(seed, number) for number in numbers]
    canvas = None
    if edits is not None:
        canvas = encode_edits(parts.tokenizer, edits, seed=seed, numbers=numbers)
    loop = unmask(
        generator,
        parts.text(ids, mask),
        mask,
        grid=grid,
        config=settings,
        generators=sources,
        start=None if canvas is None else canvas.start(generator.mask_id),
    )
    step: Step | None = None
    for count, step in enumerate(loop, start=1):
        if stepped is not None:
            stepped()
        if previews:
            codes = _codes(parts, step.indices)
            yield _preview(parts, step, codes, canvas, (count, settings.num_steps), refined=False)
    assert step is not None, "the loop has at least one step"
    latent = _codes(parts, step.indices)
    if head is not None:
        residual = sample_residual(
            head, step.hidden, config=settings, generators=sources, to_logits=generator.predict
        )
        latent = latent + rearrange(residual, "b (h w) c -> b c h w", h=grid[0])
    last = (settings.num_steps, settings.num_steps)
    refined = _preview(parts, step, latent, canvas, last, refined=True)
    if stepped is not None:
        stepped()
    yield refined


def check_text(prompts: Sequence[str]) -> None:
    """Refuse what is not text.

    Raises:
        UsageError: no list of some, a prompt that is no string, or has a lone surrogate.
    """
    if prompts is None or isinstance(prompts, str):
        raise UsageError(f"prompts are {prompts!r}; give a list of texts")
    if not prompts:
        raise UsageError("nothing to generate: give a prompt")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise UsageError(f"prompt {prompt!r} is a {type(prompt).__name__}; give text")
        try:
            prompt.encode()
        except UnicodeEncodeError:
            raise UsageError(f"prompt {prompt!r} is not valid text (a lone surrogate)") from None


def _codes(parts: Parts, indices: Tensor) -> Tensor:
    """The latent (b, c, h, w) of indices, zero where they are hidden."""
    hidden = indices == parts.model.generator.mask_id
    codes = parts.tokenizer.lookup(indices.masked_fill(hidden, 0))
    return codes.masked_fill(rearrange(hidden, "b h w -> b 1 h w"), 0.0)


def _preview(
    parts: Parts,
    step: Step,
    latent: Tensor,
    canvas: Canvas | None,
    count: tuple[int, int],
    *,
    refined: bool,
) -> StepPreview:
    """The images of a latent (b, c, h, w), with what an edit keeps in its place.

    The refined ones are always the large decoder's.
    """
    if canvas is not None:
        latent = canvas.keep(latent)
    truncate = {Rounding.nearest: False, Rounding.down: True}[parts.rounding]
    decode = parts.tokenizer.decode if refined else parts.tokenizer.preview
    images = [to_pil(pixels, truncate=truncate) for pixels in decode(latent)]
    if canvas is not None:
        images = canvas.paste(images)
    return StepPreview(*count, images, step.indices.cpu(), refined)

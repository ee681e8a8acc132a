"""Prompt to picture: text, indices, residual, pixels, in this order and nothing else (Fig. 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from dcar.config import Order, SamplingConfig
from dcar.model import DCAR
from dcar.pretrained import load_pretrained, load_tokenizer
from dcar.randomness import keyed_generator
from dcar.sampler import Step, sample_residual, unmask
from dcar.text import TextEncoder
from dcht.errors import UsageError
from dcht.images import to_pil
from dcht.tokenizer import Tokenizer


class StepPreview(NamedTuple):
    """The images after one unmasking step, or (`refined`) the final ones."""

    step: int
    """From 1; the refined images come after the last step, with its number."""
    num_steps: int
    images: list[Image.Image]
    """Decoded from the codes that are there; hidden positions have the zero latent."""
    indices: Tensor
    """(b, h, w), the codebook's size where still hidden."""
    refined: bool


@dataclass(kw_only=True)
class GenerationResult:
    """Images in the order of the prompts, `num_images` for each."""

    images: list[Image.Image]
    indices: Tensor
    """(number of images, h, w)."""
    prompts: list[str]
    """The prompt of each image."""
    seed: int
    """The noise of image k depends on (seed, k) alone."""
    settings: SamplingConfig
    batch_size: int


class TextToImage:
    """Everything a prompt needs to become a picture.

    Attributes:
        model: generator and head.
        text: the text encoder.
        tokenizer: the image tokenizer.
        sampling: the settings used where the caller gives none.
        size: (height, width) in pixels, likewise.
        sha256: hash of the checkpoint, None for weights that were never saved.
    """

    def __init__(
        self,
        model: DCAR,
        text: TextEncoder,
        tokenizer: Tokenizer,
        *,
        sampling: SamplingConfig,
        size: tuple[int, int],
        sha256: str | None = None,
    ) -> None:
        self.model = model.eval()
        self.text = text.eval()
        self.tokenizer = tokenizer.eval()
        self.sampling = sampling
        self.size = size
        self.sha256 = sha256

    @classmethod
    def from_pretrained(cls, name: str | Path | None = None) -> TextToImage:
        """Load a folder, a Hub id, or (None) the checkpoint that ships with the package.

        Raises:
            CheckpointError: files that are missing or do not fit, or another image tokenizer than
                the one the generator was trained on.
        """
        found = load_pretrained(name)
        config = found.config
        return cls(
            found.model,
            found.text,
            load_tokenizer(config.tokenizer, found.folder),
            sampling=config.sampling,
            size=(config.height, config.width),
            sha256=found.sha256,
        )

    def to(self, device: torch.device | str) -> TextToImage:
        """Move all parts; returns self."""
        for part in (self.model, self.text, self.tokenizer):
            part.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return self.model.generator.null_text.device

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        height: int | None = None,
        width: int | None = None,
        num_steps: int | None = None,
        cfg_scale: float | None = None,
        temperature: float | None = None,
        num_diffusion_steps: int | None = None,
        order: Order | str | None = None,
        seed: int = 0,
        num_images: int = 1,
        batch_size: int = 8,
    ) -> GenerationResult:
        """Generate `num_images` pictures of each prompt.

        What is not given comes from the checkpoint, which has the paper's values (12 steps,
        guidance 4.5, temperature 4.5, 20 diffusion steps) unless it says otherwise.

        Args:
            prompts: one or several.
            height: in pixels, a multiple of 32.
            width: in pixels, a multiple of 32.
            num_steps: unmasking steps.
            cfg_scale: s in (1 + s) conditional - s unconditional; 0 is off.
            temperature: of the randomised choice.
            num_diffusion_steps: steps of the residual head.
            order: which drawn indices a step keeps.
            seed: not negative. Image k depends on (seed, k), whatever the batch size.
            num_images: pictures a prompt.
            batch_size: images sampled together.

        Raises:
            UsageError: a size that is not a multiple of 32, or a number out of range.
        """
        settings = self.settings(num_steps, cfg_scale, temperature, num_diffusion_steps, order)
        prompts = [prompts] if isinstance(prompts, str) else prompts
        repeated = [prompt for prompt in prompts for _ in range(num_images)]
        if not repeated or batch_size < 1:
            raise UsageError("nothing to generate: give a prompt, num_images and batch_size >= 1")
        images: list[Image.Image] = []
        indices: list[Tensor] = []
        for start in range(0, len(repeated), batch_size):
            *_, last = self.steps(
                repeated[start : start + batch_size],
                first_index=start,
                seed=seed,
                settings=settings,
                size=(height or self.size[0], width or self.size[1]),
                previews=False,
            )
            images += last.images
            indices.append(last.indices)
        return GenerationResult(
            images=images,
            indices=torch.cat(indices),
            prompts=repeated,
            seed=seed,
            settings=settings,
            batch_size=batch_size,
        )

    def stream(
        self,
        prompts: str | Sequence[str],
        *,
        height: int | None = None,
        width: int | None = None,
        num_steps: int | None = None,
        cfg_scale: float | None = None,
        temperature: float | None = None,
        num_diffusion_steps: int | None = None,
        order: Order | str | None = None,
        seed: int = 0,
    ) -> Iterator[StepPreview]:
        """Generate one picture of each prompt in one batch, with a preview after each step.

        The arguments are those of a call. The refined images come last.
        """
        return self.steps(
            [prompts] if isinstance(prompts, str) else prompts,
            seed=seed,
            settings=self.settings(num_steps, cfg_scale, temperature, num_diffusion_steps, order),
            size=(height or self.size[0], width or self.size[1]),
        )

    def settings(
        self,
        num_steps: int | None = None,
        cfg_scale: float | None = None,
        temperature: float | None = None,
        num_diffusion_steps: int | None = None,
        order: Order | str | None = None,
    ) -> SamplingConfig:
        """The checkpoint's sampling settings with what is given in their place.

        Raises:
            UsageError: a number out of range or an order that is not known.
        """
        given = {
            "num_steps": num_steps,
            "cfg_scale": cfg_scale,
            "temperature": temperature,
            "num_diffusion_steps": num_diffusion_steps,
            "order": None if order is None else _order(order),
        }
        return replace(self.sampling, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]

    @torch.inference_mode()
    def steps(
        self,
        prompts: Sequence[str],
        *,
        settings: SamplingConfig,
        size: tuple[int, int],
        seed: int,
        first_index: int = 0,
        previews: bool = True,
    ) -> Iterator[StepPreview]:
        """The way from a batch of prompts to their pictures, which come last.

        Args:
            prompts: one an image.
            settings: how to sample.
            size: (height, width) in pixels.
            seed: not negative.
            first_index: number of the first image; the noise of each depends on (seed, number).
            previews: whether to decode and yield what each step made.

        Raises:
            UsageError: a side that is not a multiple of 32, a negative seed, or a prompt that is
                not text.
        """
        grid = self._grid(size)
        _check(prompts, seed)
        ids, mask = (part.to(self.device) for part in self.text.tokenize(prompts))
        numbers = range(first_index, first_index + len(prompts))
        generators = [keyed_generator(seed, number) for number in numbers]
        loop = unmask(
            self.model.generator,
            self.text(ids, mask),
            mask,
            grid=grid,
            config=settings,
            generators=generators,
        )
        step: Step | None = None
        for count, step in enumerate(loop, start=1):
            if previews:
                images = self._decode(self._codes(step.indices))
                yield StepPreview(count, settings.num_steps, images, step.indices.cpu(), False)
        assert step is not None, "the loop has at least one step"
        latent = self._codes(step.indices)
        if self.model.head is not None:
            residual = sample_residual(
                self.model.head, step.hidden, config=settings, generators=generators
            )
            latent = latent + rearrange(residual, "b (h w) c -> b c h w", h=grid[0])
        images = self._decode(latent)
        yield StepPreview(settings.num_steps, settings.num_steps, images, step.indices.cpu(), True)

    def _codes(self, indices: Tensor) -> Tensor:
        """The latent (b, c, h, w) of indices, zero where they are hidden."""
        hidden = indices == self.model.generator.mask_id
        codes = self.tokenizer.lookup(indices.masked_fill(hidden, 0))
        return codes.masked_fill(rearrange(hidden, "b h w -> b 1 h w"), 0.0)

    def _decode(self, latent: Tensor) -> list[Image.Image]:
        return [to_pil(pixels) for pixels in self.tokenizer.decode(latent)]

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        patch = self.tokenizer.config.downsampling
        for name, side in zip(("height", "width"), size, strict=True):
            if side < patch or side % patch:
                nearest = max(patch, round(side / patch) * patch)
                raise UsageError(
                    f"{name} {side} is not a multiple of {patch}; the nearest is {nearest}"
                )
        return size[0] // patch, size[1] // patch


def _order(order: Order | str) -> Order:
    try:
        return Order(order)
    except ValueError:
        known = ", ".join(member.value for member in Order)
        raise UsageError(f"order {order!r} is not known; use {known}") from None


def _check(prompts: Sequence[str], seed: int) -> None:
    if seed < 0:
        raise UsageError(f"seed is {seed}; it must not be negative")
    for prompt in prompts:
        try:
            prompt.encode()
        except UnicodeEncodeError:
            raise UsageError(f"prompt {prompt!r} is not valid text (a lone surrogate)") from None

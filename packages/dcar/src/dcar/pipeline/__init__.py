"""`TextToImage`: images from prompts, edits, and a stream of previews.

The way from prompt to pixels is `dcar.pipeline.generate_batch`.

The look is diffusers': `from_pretrained`, `to`, a call that returns `.images`, and `stream` where
diffusers has callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from PIL import Image
from torch import Tensor

from dcar.config import SAFETY_THRESHOLD, Rounding, SamplingConfig
from dcar.model import DCAR
from dcar.modules.condition import Condition
from dcar.pipeline.edit import Edit, Mask, inpaint, outpaint, snapped_mask
from dcar.pipeline.generate_batch import Parts, check_text, generate_batch
from dcar.pipeline.results import GenerationResult, StepPreview
from dcar.pipeline.safety import SafetyChecker, Screened, screen
from dcar.pipeline.save import pipeline_card, save_pipeline
from dcar.pipeline.settings import Options, Settings, resolve, seed_of
from dcar.weights.int8 import is_int8, require_torchao, to_int8
from dcar.weights.pretrained import check_tokenizer, hub_id, load_pretrained, load_tokenizer
from dcht.checkpoint import Origin
from dcht.device import Precision, dtype_of, pick_precision
from dcht.errors import UsageError
from dcht.hub import Access, push
from dcht.ranges import require_whole
from dcht.tokenizer import Tokenizer


class TextToImage:
    """Everything a prompt needs to become an image.

    Attributes:
        model: generator and head.
        text: the text encoder, or that of classes.
        tokenizer: the image tokenizer.
        sampling: the settings used where the caller gives none.
        size: (height, width) in pixels, likewise.
        rounding: of pixels to 8 bits.
        tokenizer_id: of the image tokenizer on the Hub; None: it is not from there.
        safety: the checker of prompts, None for none.
    """

    def __init__(
        self,
        model: DCAR,
        text: Condition,
        tokenizer: Tokenizer,
        *,
        sampling: SamplingConfig,
        size: tuple[int, int],
        sha256: str | None = None,
        rounding: Rounding = Rounding.nearest,
        tokenizer_id: str | None = None,
        safety: SafetyChecker | None = None,
    ) -> None:
        self.model = model.eval()
        self.text = text.eval()
        self.tokenizer = tokenizer.eval()
        self.sampling = sampling
        self.size = size
        self._origin = Origin(sha256, model, text, tokenizer)
        self.rounding = rounding
        self.tokenizer_id = tokenizer_id
        self.safety = safety

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        precision: Precision | str | None = None,
        safety: str | Path | None = None,
        safety_threshold: float | None = None,
    ) -> TextToImage:
        """Load a folder, a Hub id, or (None) the checkpoint that ships with the package.

        Args:
            name: the generator.
            revision: of a Hub id: branch, tag or commit.
            token: of the Hub; None: the one that `hf auth login` left.
            cache_dir: where downloads are kept; None: where all of Hugging Face's libraries do.
            local_files_only: take what an earlier download left, and ask nobody.
            dtype: of the weights, any float type; None: fp32.
            device: where they are; None: the CPU.
            precision: in place of `dtype`, by name: `auto`, fp32, bf16, fp16, or int8 (the linear
                layers of transformer and head; the rest is fp32).
            safety: a ShieldGemma that judges every prompt (appendix A.1); None: no check.
            safety_threshold: P(Yes) from which a prompt is rejected; None: `SAFETY_THRESHOLD`.

        Raises:
            CheckpointError: files that are missing or do not fit, another image tokenizer than
                the one the generator was trained on, or a checker that cannot be loaded.
            UsageError: a precision that is not known or not to be had, or a `dtype` beside it; or a
                threshold and no checker.
        """
        if precision is not None:
            precision = pick_precision(precision, device or "cpu", int8=True)
        if precision is Precision.int8 and dtype is None:
            require_torchao()
        else:  # a dtype beside any precision is refused here
            dtype = dtype_of(precision and precision.value, dtype, device)
        checker = None
        threshold = SAFETY_THRESHOLD if safety_threshold is None else safety_threshold
        if safety is not None:
            checker = SafetyChecker.from_pretrained(safety, threshold=threshold)
        elif safety_threshold is not None:
            raise UsageError(
                f"safety threshold {safety_threshold} is of a checker, and none is named: no "
                "prompt would be checked; name a ShieldGemma (--safety)"
            )
        access = Access(token=token, cache_dir=cache_dir, local_files_only=local_files_only)
        found = load_pretrained(name, revision=revision, **access)
        config = found.config
        tokenizer = load_tokenizer(config.tokenizer, found.folder, **access)
        check_tokenizer(tokenizer, config, found.folder)
        pipe = cls(
            found.model,
            found.text,
            tokenizer,
            sampling=config.sampling,
            size=(config.height, config.width),
            sha256=found.sha256,
            rounding=config.rounding,
            tokenizer_id=hub_id(config.tokenizer, found.folder),
            safety=checker,
        )
        pipe.to(device, dtype)
        if precision is Precision.int8:
            to_int8(pipe.model)
            pipe._origin = Origin(found.sha256, *pipe._parts)
        return pipe

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> str:
        """Write a checkpoint that `from_pretrained` loads, and return its hash.

        The image tokenizer is named where others find it too: the bundled one, or one on the Hub.
        Any other is written beside it, into `tokenizer/`.

        Args:
            folder: where to.
            dtype: rounds the weights of generator, head and small text encoder (float16 halves the
                file); None: as they are.

        Raises:
            UsageError: weights that are int8, or a text encoder that no checkpoint can hold.
        """
        saved = save_pipeline(self, Path(folder), dtype)
        if dtype is None:  # else these weights are not rounded as those in the file
            self._origin = Origin(saved, *self._parts)
        return saved

    def push_to_hub(
        self,
        name: str,
        *,
        dtype: torch.dtype | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
    ) -> str:
        """`save_pretrained` to the Hub (`dcht.hub.push`); returns the address of the commit.

        A repository that has no model card gets one.

        Raises:
            UsageError: what `save_pretrained` raises, or the Hub did not take it.
        """
        return push(
            lambda folder: self.save_pretrained(folder, dtype=dtype),
            name,
            card=pipeline_card(self, name),
            private=private,
            token=token,
            revision=revision,
        )

    def to(
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> TextToImage:
        """Move all parts, or cast their weights to any float type, or both; returns self.

        In half precision codes and the steps of the residual's chain stay in fp32, and the checker
        of prompts stays as it was loaded.

        Raises:
            UsageError: a type for weights that are int8.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None and self.precision is Precision.int8:
            raise UsageError(f"int8 weights cannot become {dtype}; load the checkpoint again")
        ours, before = self.sha256 is not None, self.precision
        for part in self._parts:
            part.to(device=device, dtype=dtype)
        if ours:
            self._origin.follow(before, self.precision, *self._parts)
        if self.safety is not None and device is not None:
            self.safety.to(device)
        return self

    def compile(self) -> TextToImage:
        """Compile transformer, head and decoder with torch.compile; returns self.

        On a GPU they become CUDA graphs. The first image of each size and batch size takes as long
        as compiling does, seconds to minutes. Compile last: after `to`, on the device that draws.
        Images agree with those of the plain pipeline within rounding, not byte for byte.

        Raises:
            UsageError: no C++ compiler.
        """
        from dcar.pipeline.compiled import compile_networks

        compile_networks(self.model, self.tokenizer.decoder)
        return self

    @property
    def sha256(self) -> str | None:
        """Hash of the checkpoint; None for weights that were never saved, or have changed since."""
        return self._origin.sha256(*self._parts)

    @property
    def _parts(self) -> tuple[DCAR, Condition, Tokenizer]:
        return self.model, self.text, self.tokenizer

    @property
    def precision(self) -> Precision:
        """Of the weights."""
        if is_int8(self.model):
            return Precision.int8
        return Precision.of(self.model.generator.embedding.weight.dtype)

    @property
    def identity(self) -> dict[str, str | None]:
        """What a record says of the weights: their hash, and their precision but for fp32."""
        return {"weights": self.sha256, **self.precision.noted()}

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
        seed: int | None = None,
        num_images: int = 1,
        generator: torch.Generator | None = None,
        batch_size: int = 8,
        first_index: int = 0,
        **settings: Unpack[Settings],
    ) -> GenerationResult:
        """Generate `num_images` images of each prompt.

        Args:
            prompts: one or several; of a checkpoint of classes, their names or numbers.
            height: in pixels, a multiple of 32; None: the checkpoint's.
            width: likewise.
            seed: not negative; None: 0. Image k depends on (seed, k), whatever the batch size.
            num_images: images a prompt.
            generator: in place of a seed, as in diffusers (`dcar.pipeline.settings.seed_of`).
            batch_size: images sampled together.
            first_index: k of the first image, to make one of a series alone.
            settings: `Settings` by name, in place of the checkpoint's. diffusers' names are taken
                too: `guidance_scale` is 1 + `cfg_scale`, `num_inference_steps` is `num_steps`.

        Raises:
            UsageError: a size that is not a multiple of 32, a number out of range, or one thing by
                two names.
        """
        return self._series(
            _listed(prompts),
            self._sides(height, width),
            None,
            seed=seed,
            num_images=num_images,
            generator=generator,
            batch_size=batch_size,
            first_index=first_index,
            **settings,
        )

    def _sides(self, height: int | None, width: int | None) -> tuple[int, int]:
        """As asked, or else the checkpoint's; whether they can be had is seen later."""
        return (
            self.size[0] if height is None else height,
            self.size[1] if width is None else width,
        )

    def edit(
        self,
        image: Image.Image | Sequence[Image.Image],
        mask: Mask | Sequence[Mask] | None,
        prompt: str | Sequence[str],
        *,
        strength: float = 1.0,
        **options: Unpack[Options],
    ) -> GenerationResult:
        """Draw part of an image anew, or (mask None, strength below 1) a variation of it.

        The mask snaps outwards to tokens of 32 px (`result.masks`); every pixel outside is the
        image's own. Several images, masks and prompts make as many edits, one of a kind serves
        all, and their masks may be unequal. Everything masked, the result is that of a call.

        Args:
            image: its sides multiples of 32; several must be of one size.
            mask: of the image's size, where it is to change (`dcar.pipeline.edit.Mask`); None:
                everywhere.
            prompt: what the whole image shows afterwards.
            strength: share of the masked tokens that is regenerated, in (0, 1].
            options: as in a call, but for height and width.

        Raises:
            UsageError: sizes that do not fit, a mask of nothing, or a number out of range.
        """
        images, masks, prompts = _align(_listed(image), _listed(mask), _listed(prompt))
        patch = self.tokenizer.config.downsampling
        pairs = zip(images, masks, strict=True)
        edits = [inpaint(one, where, patch=patch, strength=strength) for one, where in pairs]
        return self._edited(prompts, edits, **options)

    def outpaint(
        self,
        image: Image.Image | Sequence[Image.Image],
        prompt: str | Sequence[str],
        *,
        left: int = 0,
        right: int = 0,
        top: int = 0,
        bottom: int = 0,
        **options: Unpack[Options],
    ) -> GenerationResult:
        """Draw more of an image: margins in pixels, multiples of 32; the rest as for `edit`.

        Raises:
            UsageError: a margin or a side that is not a multiple of 32, or no margin at all.
        """
        images, prompts = _align(_listed(image), _listed(prompt))
        patch = self.tokenizer.config.downsampling
        edits = [
            outpaint(one, left=left, right=right, top=top, bottom=bottom, patch=patch)
            for one in images
        ]
        return self._edited(prompts, edits, **options)

    def stream(
        self,
        prompts: str | Sequence[str],
        *,
        height: int | None = None,
        width: int | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        **settings: Unpack[Settings],
    ) -> Iterator[StepPreview]:
        """Generate one image of each prompt in one batch, with a preview after each step.

        The arguments are those of a call. The refined images come last.
        """
        return self.generate_batch(
            self.screen(_listed(prompts)).prompts,
            seed=seed_of(seed, generator),
            settings=self.settings(**settings),
            size=self._sides(height, width),
        )

    def generate_batch(
        self,
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
        """The function of this name (`dcar.pipeline.generate_batch`), with this pipeline's parts.

        All that makes images comes through here: a call, an edit, a stream, and the files of
        `dcar generate`. Prompts are taken as they are: `screen` comes before.
        """
        return generate_batch(
            Parts(self.text, self.model, self.tokenizer, self.rounding),
            prompts,
            settings=settings,
            size=size,
            seed=seed,
            first_index=first_index,
            previews=previews,
            edits=edits,
            stepped=stepped,
        )

    def settings(self, **given: Unpack[Settings]) -> SamplingConfig:
        """The checkpoint's sampling settings with what is given in their place.

        Raises:
            UsageError: a number out of range, or a choice that is not known.
        """
        # Of weights that were never saved nobody expects a good image.
        return resolve(self.sampling, given, any_steps=self.sha256 is None)

    def screen(self, prompts: Sequence[str]) -> Screened:
        """Prompts after the safety check, if there is a checker.

        Raises:
            UsageError: a prompt that is not text, or no class of a checkpoint that knows classes.
        """
        check_text(prompts)
        found = screen(self.safety, prompts)
        # What means nothing is known before the first image.
        self.text.tokenize(list(dict.fromkeys(found.prompts)))
        return found

    def _edited(
        self, prompts: Sequence[str], edits: Sequence[Edit], **options: Unpack[Options]
    ) -> GenerationResult:
        if not edits:
            raise UsageError("nothing to edit: give an image")
        if len({edit.region.shape for edit in edits}) > 1:
            raise UsageError("the images are of several sizes; edit those of one size together")
        patch = self.tokenizer.config.downsampling
        h, w = edits[0].region.shape
        return self._series(prompts, (h * patch, w * patch), edits, **options)

    def _series(
        self,
        prompts: Sequence[str],
        size: tuple[int, int],
        edits: Sequence[Edit] | None,
        *,
        seed: int | None = None,
        num_images: int = 1,
        generator: torch.Generator | None = None,
        batch_size: int = 8,
        first_index: int = 0,
        **settings: Unpack[Settings],
    ) -> GenerationResult:
        """`num_images` images of each prompt, in batches."""
        require_whole(num_images=num_images, batch_size=batch_size, first_index=first_index)
        if not prompts or num_images < 1 or batch_size < 1:
            raise UsageError("nothing to generate: give a prompt, num_images and batch_size >= 1")
        seed = seed_of(seed, generator)
        sampling = self.settings(**settings)
        safe, verdicts = self.screen([prompt for prompt in prompts for _ in range(num_images)])
        if edits is not None:
            edits = [edit for edit in edits for _ in range(num_images)]
        images: list[Image.Image] = []
        indices: list[Tensor] = []
        for start in range(0, len(safe), batch_size):
            batch = slice(start, start + batch_size)
            *_, last = self.generate_batch(
                safe[batch],
                edits=None if edits is None else edits[batch],
                first_index=first_index + start,
                seed=seed,
                settings=sampling,
                size=size,
                previews=False,
            )
            images += last.images
            indices.append(last.indices)
        patch = self.tokenizer.config.downsampling
        return GenerationResult(
            images=images,
            indices=torch.cat(indices),
            prompts=safe,
            verdicts=verdicts,
            left_out=[self.text.left_out(prompt) for prompt in safe],
            masks=None if edits is None else [snapped_mask(edit, patch) for edit in edits],
            seed=seed,
            settings=sampling,
            batch_size=batch_size,
        )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _align(*lists: list[Any]) -> list[list[Any]]:
    """Lists of one length: one of a kind serves all.

    Raises:
        UsageError: two lengths above one.
    """
    count = max(map(len, lists))
    if unequal := sorted({len(values) for values in lists} - {1, count}):
        raise UsageError(f"{unequal[0]} and {count} of a kind do not pair up; give one, or {count}")
    return [values * count if len(values) == 1 else values for values in lists]

"""The state of a generator's training, and its one step (section 3.2, Table 8).

Randomness is a function of (seed, sample) and (seed, step), see `dcar.randomness`, and losses are
normalized over the global batch: so a resumed run is the run that was never interrupted, and
several ranks follow the loss of one. What is sampled and published are the EMA weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcar.config import ClassesConfig
from dcar.data import open_data, residual_std
from dcar.data.order import Sample, Stream
from dcar.data.text_cache import TextCache
from dcar.model import DCAR, Losses, Randomness, mask_weights
from dcar.modules.classes import ClassEncoder
from dcar.modules.condition import Encoder
from dcar.randomness import keyed_seed
from dcar.train.learner import Learner, make_optimizer, moments
from dcar.train.lora import merge_lora
from dcar.train.parallel import distribute, gradient_sync, whole
from dcar.train.resume import ResumeFolder, read_facts, read_tensors_into
from dcar.train.start import load_image_tokenizer, same_encoder, start_weights
from dcar.train_config import TrainConfig
from dcht.checkpoint import load_strict
from dcht.engine.distributed import World
from dcht.engine.training import EMA, finite_or_stop, use_bf16, warmup_lr
from dcht.errors import CheckpointError, UsageError

DROPOUT = 3
"""Key of a step's dropout, beside those of `dcar.data.order`."""


@dataclass(frozen=True)
class StepResult:
    """What a step of the global batch gave, the same on all ranks."""

    scalars: dict[str, float]
    """The losses, the gradient's norm (and the head's, where it is clipped apart) before clipping,
    and the learning rate."""
    by_ratio: Tensor
    """(4, 3): `Losses.by_ratio` of the global batch, on the CPU."""


class Trainer:
    """A run somewhere between its first and last step, on one rank of `world`."""

    def __init__(self, config: TrainConfig, world: World) -> None:
        """Load what can be missing first (tokenizer, data, weights to start from).

        Raises:
            UsageError: data or captions missing, or a batch that the ranks cannot share evenly.
            CheckpointError: a tokenizer, data or weights that do not belong together.
        """
        if config.batch_size % (config.accumulate * world.size):
            raise UsageError(
                f"batch_size {config.batch_size} is not a multiple of accumulate "
                f"{config.accumulate} times {world.size} ranks"
            )
        self.world, self.device = world, world.device
        self.tokenizer = load_image_tokenizer(config).to(self.device)
        labels = config.model.text.classes is not None
        self.data = open_data(config.data, self.tokenizer, labels=labels)
        std = residual_std(self.data, self.tokenizer)
        model = replace(config.model, head=replace(config.model.head, residual_std=std))
        self.config = config = replace(config, model=model)
        self.stream = Stream(config.seed, self.data)
        self.contents = world.on_main(self._find_contents)
        torch.manual_seed(config.seed)  # every rank starts from the same weights
        network, self.text = start_weights(config, self.data)
        if isinstance(self.text, ClassEncoder):
            text = replace(model.text, classes=ClassesConfig(names=self.text.names))
            self.config = config = replace(config, model=replace(model, text=text))
        self.text.to(self.device)
        self.cache = None if config.text_cache is None else TextCache(self.text, config.text_cache)
        self.learner = Learner(network, self.text).to(self.device).train()
        network.generator.recompute = config.activation_checkpointing
        if config.compile:
            self.learner.compile()
        self.module = distribute(self.learner, world, config.parallel)
        self.optimizer = make_optimizer(self.learner, config.optimizer)
        self.ema = EMA(self.learner, config.optimizer.ema_decay)
        self.step = 0

    def _find_contents(self) -> dict[str, str]:
        return {"image tokenizer": str(self.tokenizer.sha256), **self.data.contents()}

    def train_step(self) -> StepResult:
        """One optimizer step on the next batch."""
        config, world = self.config, self.world
        share = config.batch_size // world.size
        first = world.rank * share
        samples = self.stream.batch(self.step, config.batch_size)[first : first + share]
        images = self.data.read([sample.row for sample in samples])
        tokens = self.text.tokenize([sample.caption for sample in samples])
        numbers = [sample.index for sample in samples]
        randomness = self.learner.model.sample_randomness(
            config.seed,
            numbers,
            images.indices[0].numel(),
            mask_schedule=config.mask_schedule,
        )
        weight_sum = world.sum(mask_weights(randomness.mask, config.loss).sum()).to(self.device)

        torch.manual_seed(keyed_seed(config.seed, self.step, DROPOUT, world.rank))
        scalars, by_ratio = torch.zeros(3, device=self.device), torch.zeros((), device=self.device)
        size = share // config.accumulate
        for start in range(0, share, size):
            part = slice(start, start + size)
            text, mask = self._embed(samples[part], tokens.ids[part], tokens.mask[part])
            with gradient_sync(self.module, wanted=start + size == share), self._attention():
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    losses: Losses = self.module(
                        images.indices[part].to(self.device),
                        images.residual[part].to(self.device),
                        text,
                        mask,
                        Randomness(
                            *(d.to(self.device) for d in randomness.part(start, start + size))
                        ),
                        loss=config.loss,
                        share=size / config.batch_size,
                        weight_sum=weight_sum,
                    )
                # Ranks' gradients are averaged; their losses are to be summed.
                (losses.total * world.size).backward()
            scalars += torch.stack(losses[:3]).detach()
            by_ratio = by_ratio + losses.by_ratio
        scalars, by_ratio = world.sum(scalars), world.sum(by_ratio)
        values = dict(zip(Losses._fields[:3], scalars, strict=True)) | self._clip()
        batch = {"indices": images.indices, "residual": images.residual, "text": tokens.ids}
        finite_or_stop(values, batch, config.out, self.step, world=world)
        rate = self._set_rate()
        self.optimizer.step()
        # Not kept until the next step: saving, publishing and sampling come in between.
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.learner)
        self.step += 1
        row = {name: float(value) for name, value in values.items()}
        return StepResult(row | {"lr": rate}, by_ratio.cpu())

    def _clip(self) -> dict[str, Tensor]:
        """Clip the gradients, together or apart; returns their norms before."""
        config, head = self.config.optimizer, self.learner.model.head
        if config.head_clip is None or head is None:
            norm = nn.utils.clip_grad_norm_(self.learner.parameters(), config.clip)
            return {"grad_norm": whole(norm)}
        of_head = set(head.parameters())
        rest = [each for each in self.learner.parameters() if each not in of_head]
        norms = {
            "grad_norm": nn.utils.clip_grad_norm_(rest, config.clip),
            "head_grad_norm": nn.utils.clip_grad_norm_(head.parameters(), config.head_clip),
        }
        return {name: whole(norm) for name, norm in norms.items()}

    @property
    def bf16(self) -> bool:
        """Whether the network runs in bf16 autocast; losses and weights are fp32 either way."""
        return use_bf16(self.config.bf16, self.device)

    def _attention(self) -> AbstractContextManager[Any]:
        """Plain attention in bf16 on a CPU, where the fused kernel's gradient takes half a step."""
        plain = self.bf16 and self.device.type == "cpu"
        return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()

    def _embed(self, samples: list[Sample], ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What `Learner.forward` takes for the captions of samples, on the device."""
        if self.cache is not None:
            return self.cache.encode([sample.caption for sample in samples])
        ids, mask = ids.to(self.device), mask.to(self.device)
        return (ids if self.text.trained else self.text(ids, mask)), mask

    def _set_rate(self) -> float:
        settings = self.config.optimizer
        rate = warmup_lr(
            self.step,
            base=settings.lr,
            warmup_steps=settings.warmup_steps,
            total_steps=self.config.steps,
            final=settings.final_lr,
            shape="cosine",
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels: of the first image, where they differ."""
        factor = self.tokenizer.config.downsampling
        height, width = self.data.grid(0)
        return height * factor, width * factor

    def averaged(self) -> tuple[DCAR, Encoder]:
        """The EMA weights as a model in eval mode; all ranks call this together.

        One rank's model shares its storage with the average: it is to be read only.
        """
        tensors = {key: whole(value) for key, value in self.ema.shadow.items()}
        with torch.device("meta"):
            model = DCAR(self.config.model)
        load_strict(model, merge_lora(_under("model.", tensors), self.config.lora), "EMA")
        text = self.text
        if text.trained:
            text = same_encoder(text, self.config.model)
            load_strict(text.to(self.device), _under("text.", tensors), "EMA")
        return model.requires_grad_(False).eval(), text.eval()

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the run's state: its own, not copies."""
        return (
            {f"learner.{key}": value for key, value in self.learner.state_dict().items()}
            | {f"ema.{key}": value for key, value in self.ema.shadow.items()}
            | moments(self.learner, self.optimizer, step=self.step)
        )

    def save(self, saves: ResumeFolder, progress: Mapping[str, Any], *, wait: bool) -> None:
        """Save all that resuming needs. Of random numbers that is the step: they are keyed by it.

        Raises:
            OSError: it could not be written.
        """
        facts = {"ema_updates": self.ema.num_updates, "data": self.contents, "progress": progress}
        saves.save(self.step, self.tensors(), facts, wait=wait)

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from a save, whatever the number of ranks that wrote it.

        Returns:
            The facts that were saved with it.

        Raises:
            UsageError: the data has changed since.
            CheckpointError: the save is damaged.
        """
        facts = read_facts(folder)
        updates, before = facts.get("ema_updates"), facts.get("data")
        if type(updates) is not int or updates < 0 or not isinstance(before, (dict, str)):
            raise CheckpointError(f"{folder} is damaged: its state.json is that of no save")
        if different := changed(before, self.contents):
            raise UsageError(
                f"{self.config.data.root} is not the data that the run in {self.config.out} began "
                f"with (changed: {', '.join(different)}); choose another out=, and start from its "
                "result with init_from="
            )
        read_tensors_into(folder, self.tensors(), self.world)
        self.step, self.ema.num_updates = facts["step"], updates
        moments(self.learner, self.optimizer, step=self.step)
        return facts


def changed(before: Mapping[str, Any] | str, now: Mapping[str, str]) -> list[str]:
    """What of the contents `now` is not as a save has it; what a save does not say, it may be."""
    if isinstance(before, str):
        before = {"captions": before}  # a save of dcar 0.1
    return [name for name, digest in now.items() if before.get(name, digest) != digest]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }

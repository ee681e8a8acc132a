"""Training DCAR (section 3.2, Table 8): one thin loop, one process.

Randomness is a function of (seed, sample) and (seed, step), see `dcar.randomness`: a resumed run is
the run that was never interrupted. What is sampled and published are the EMA weights.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcar.config import CheckpointConfig, LossConfig
from dcar.data import Data, open_data, residual_std
from dcar.model import DCAR, Draws, Losses, mask_weights
from dcar.pipeline import TextToImage
from dcar.pretrained import refer_to_tokenizer, save_pretrained
from dcar.randomness import keyed_seed
from dcar.start import load_image_tokenizer, start_weights
from dcar.stream import Stream
from dcar.text import TextEncoder
from dcar.train_config import TrainConfig
from dcht.checkpoint import to_dict
from dcht.command import INTERRUPTED, OK, pick_device
from dcht.errors import UsageError
from dcht.images import grid
from dcht.training import (
    EMA,
    RESUME_PATTERN,
    GracefulStop,
    RunLog,
    check_settings,
    finite_or_stop,
    load_resume,
    save_resume,
    warmup_lr,
)

FREE_SETTINGS = frozenset({"device", "force", "log_every", "prompts", "sample_every", "save_every"})
"""What may differ when a run continues: nothing that a finished step depended on."""
DROPOUT = 3
"""Key of a step's dropout, beside those of `dcar.data`."""


def train(config: TrainConfig) -> int:
    """Run or continue a run in `config.out`; `checkpoint/` there is the result.

    Returns:
        0 when all steps are done, 130 when a signal stopped it (the same command continues).

    Raises:
        UsageError: data or captions missing, or other settings than the run began with.
        CheckpointError: a tokenizer, data or weights that do not belong together.
        NonFiniteLossError: a loss was not finite; weights are as of the last resume file.
    """
    out = Path(config.out)
    if config.force:
        for old in out.glob(RESUME_PATTERN):
            old.unlink()
    resume = load_resume(out)
    check_settings(out, to_dict(config), free=FREE_SETTINGS, resuming=resume is not None)
    trainer = Trainer(config)
    if resume is not None:
        trainer.load_state(*resume)
    log = RunLog(out, first_step=trainer.step + 1)  # the step that was saved has its row
    for line in trainer.describe():
        log.line(line)
    try:
        with GracefulStop() as stop:
            finished = run(trainer, log, stop)
        if not finished:
            log.line(f"stopped at step {trainer.step}; the same command continues")
            return INTERRUPTED
        log.line(f"done: {out / 'checkpoint'}")
        return OK
    finally:
        log.close()


def run(trainer: Trainer, log: RunLog, stop: GracefulStop) -> bool:
    """Train to the last step; False if `stop` came first. Either way the state is saved."""
    config = trainer.config
    if trainer.step == config.steps:
        # Finished before: nothing to do but name the tokenizer where it is now.
        trainer.publish()
    sums: dict[str, float] = defaultdict(float)
    seconds, count = 0.0, 0
    while trainer.step < config.steps:
        start = time.monotonic()
        for name, value in trainer.train_step().items():
            sums[name] += value
        seconds, count = seconds + time.monotonic() - start, count + 1
        last = trainer.step == config.steps
        if trainer.step % config.log_every == 0 or last:
            row = {name: value / count for name, value in sums.items()}
            row["sequences_per_second"] = count * config.batch_size / seconds
            log.scalars(trainer.step, row)
            shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
            log.line(f"step {trainer.step}/{config.steps}  {shown}")
            sums.clear()
            seconds, count = 0.0, 0
        if config.prompts and (trainer.step % config.sample_every == 0 or last):
            log.picture(trainer.step, "prompts", trainer.sample())
        if stop.requested or last or trainer.step % config.save_every == 0:
            save_resume(config.out, trainer.step, trainer.state())
            trainer.publish()
        if stop.requested and not last:
            return False
    return True


class Learner(nn.Module):
    """What is optimised and averaged: the model, and its text encoder where that trains with it."""

    def __init__(self, model: DCAR, text: TextEncoder) -> None:
        super().__init__()
        self.model = model
        self.text = text if text.trained else None

    def forward(
        self,
        indices: Tensor,
        residual: Tensor,
        text: Tensor,
        text_mask: Tensor,
        draws: Draws,
        *,
        loss: LossConfig,
        share: float,
        weight_sum: Tensor,
    ) -> Losses:
        """`DCAR.forward`; `text` is token ids (b, l) where the text encoder trains."""
        if self.text is not None:
            text = self.text(text, text_mask)
        return self.model(
            indices, residual, text, text_mask, draws,
            loss=loss, share=share, weight_sum=weight_sum,
        )  # fmt: skip


class Trainer:
    """The state of a run and its one step."""

    def __init__(self, config: TrainConfig) -> None:
        """Load what can be missing first (tokenizer, data, weights to start from)."""
        self.device = pick_device(config.device)
        self.tokenizer = load_image_tokenizer(config).to(self.device)
        self.data = open_data(config.data, self.tokenizer)
        std = residual_std(self.data, self.tokenizer)
        model = replace(config.model, head=replace(config.model.head, residual_std=std))
        self.config = config = replace(config, model=model)
        self.stream = Stream(config.seed, self.data)
        torch.manual_seed(config.seed)
        network, self.text = start_weights(config, self.data)
        self.text.to(self.device)
        self.learner = Learner(network, self.text).to(self.device).train()
        self.optimizer = make_optimizer(self.learner, config)
        self.ema = EMA(self.learner, config.optimizer.ema_decay)
        self.step = 0

    def train_step(self) -> dict[str, float]:
        """One optimiser step on the next batch; returns the losses, gradient norm and rate."""
        config, optimizer = self.config, self.config.optimizer
        samples = self.stream.batch(self.step, config.batch_size)
        images = self.data.read([sample.row for sample in samples])
        tokens = self.text.tokenize([sample.caption for sample in samples])
        numbers = [sample.index for sample in samples]
        draws = self.learner.model.draw(config.seed, numbers, images.indices[0].numel())
        weight_sum = mask_weights(draws.mask, config.loss).sum().to(self.device)

        torch.manual_seed(keyed_seed(config.seed, self.step, DROPOUT))
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(4, device=self.device)
        size = config.batch_size // config.accumulate
        for start in range(0, config.batch_size, size):
            part = slice(start, start + size)
            batch = (images.indices[part], images.residual[part], tokens.ids[part])
            indices, residual, ids, mask = (t.to(self.device) for t in (*batch, tokens.mask[part]))
            text = ids if self.text.trained else self.text(ids, mask)
            losses: Losses = self.learner(
                indices,
                residual,
                text,
                mask,
                Draws(*(d.to(self.device) for d in draws.part(start, start + size))),
                loss=config.loss,
                share=1 / config.accumulate,
                weight_sum=weight_sum,
            )
            losses.total.backward()
            sums += torch.stack([value.detach() for value in losses[:4]])
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), optimizer.clip)
        values = dict(zip(Losses._fields[:4], sums, strict=True)) | {"grad_norm": norm}
        batch = {"indices": images.indices, "residual": images.residual, "text": tokens.ids}
        finite_or_stop(values, batch, config.out, self.step)
        rate = warmup_lr(
            self.step,
            base=optimizer.lr,
            warmup_steps=optimizer.warmup_steps,
            total_steps=config.steps,
            final=optimizer.final_lr,
            shape="cosine",
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.ema.update(self.learner)
        self.step += 1
        return {"lr": rate} | {name: float(value) for name, value in values.items()}

    def averaged(self) -> tuple[DCAR, TextEncoder]:
        """Copies with the EMA weights, in eval mode."""
        learner = copy.deepcopy(self.learner)
        self.ema.copy_to(learner)
        learner.eval()
        return learner.model, self.text if learner.text is None else learner.text

    def sample(self) -> Any:
        """A contact sheet of the fixed prompts, always with the same noise."""
        model, text = self.averaged()
        pipe = TextToImage(
            model, text, self.tokenizer, sampling=self.config.sampling, size=self._size()
        )
        images = pipe(self.config.prompts, seed=self.config.seed).images
        return grid(images, columns=math.ceil(math.sqrt(len(images))))

    def publish(self) -> None:
        """Write the EMA weights to `checkpoint/`."""
        folder = Path(self.config.out) / "checkpoint"
        model, text = self.averaged()
        height, width = self._size()
        config = CheckpointConfig(
            model=self.config.model,
            tokenizer=refer_to_tokenizer(self.tokenizer, self.config.tokenizer_ckpt, folder),
            sampling=self.config.sampling,
            height=height,
            width=width,
        )
        dtype = getattr(torch, self.config.publish_dtype.value)
        save_pretrained(folder, model, text, config, dtype=dtype)

    def _size(self) -> tuple[int, int]:
        factor = self.tokenizer.config.downsampling
        height, width = self.data.grid(0)
        return height * factor, width * factor

    def state(self) -> dict[str, Any]:
        """All that resuming needs, for `load_state`."""
        return {
            "data": fingerprint(self.data),
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
        }

    def load_state(self, step: int, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken.

        Raises:
            UsageError: the data has changed since.
        """
        if state["data"] != fingerprint(self.data):
            raise UsageError(
                f"{self.config.data.root} is not the data that the run in {self.config.out} began "
                "with; choose another out=, and start from its result with init_from="
            )
        self.step = step
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])

    def describe(self) -> list[str]:
        """What is about to happen, for whoever watches."""
        config, captions = self.config, self.data.captions
        height, width = self._size()
        counts = {
            "generator": self.learner.model.generator,
            "head": self.learner.model.head,
            "text encoder": self.learner.text,
        }
        trained = ", ".join(
            f"{name} {sum(p.numel() for p in part.parameters()) / 1e6:.2f} M"
            for name, part in counts.items()
            if part is not None
        )
        return [
            f"{config.data.root}: {len(captions)} images of {width} x {height} "
            f"({math.prod(self.data.grid(0))} tokens each), {sum(map(len, captions))} captions",
            f"steps {self.step} to {config.steps} of {config.batch_size}, "
            f"{len(captions) / config.batch_size:.1f} steps an epoch, start: {config.init_from}",
            f"trains {trained}; residual std {config.model.head.residual_std:.4f}; {self.device}",
        ]


def make_optimizer(learner: Learner, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; no decay on norms, biases, embeddings and the head (1d-tokenizer, MAR)."""
    decayed, kept = [], []
    for name, parameter in learner.named_parameters():
        free = parameter.ndim < 2 or any(part in name for part in ("embed", "bias", "model.head."))
        (kept if free else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.optimizer.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    betas = (config.optimizer.betas[0], config.optimizer.betas[1])
    return torch.optim.AdamW(groups, lr=config.optimizer.lr, betas=betas, fused=True)


def fingerprint(data: Data) -> str:
    """A hash of all captions in order: the same data, as far as the order of samples goes."""
    digest = hashlib.sha256()
    for texts in data.captions:
        digest.update(json.dumps(texts).encode())
    return digest.hexdigest()

"""Three-stage adaptation training of DC-HT (paper, section 3.1 and Table 7): the loop.

A stage is a length, a probability of the discrete path, and what trains; it starts from a tokenizer
and publishes one. The step itself is `dcht.trainer`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from dcht.checkpoint import to_dict
from dcht.command import INTERRUPTED, OK, pick_device
from dcht.crops import load_batches, to_images
from dcht.train_config import TrainConfig
from dcht.trainer import Trainer
from dcht.training import GracefulStop, RunLog, check_settings, load_resume, save_resume
from dcht.validation import validate

FREE_SETTINGS = frozenset(
    {"device", "log_every", "eval_every", "save_every", "cache", "workers", "steps", "epochs"}
)
"""What may differ when a run continues. A shorter length ends the stage where it stands."""


def train(config: TrainConfig) -> int:
    """Run or continue `config.stages` in `config.out`; `tokenizer/` there is the result.

    Returns:
        0 when all stages are done, 130 when a signal stopped it (the same command continues).

    Raises:
        UsageError: perceptual weights or images missing, or other settings than the run began with.
        NonFiniteLossError: a loss was not finite; the last resume file is as good as it was.
    """
    out = Path(config.out)
    resume = load_resume(out)
    check_settings(out, to_dict(config), free=FREE_SETTINGS, resuming=resume is not None)
    trainer = Trainer(config, pick_device(config.device))
    if resume is not None:
        trainer.load_state(*resume)
    log = RunLog(out, first_step=trainer.step + 1)
    try:
        with GracefulStop() as stop:
            while trainer.stage_index < len(config.stages):
                if not run_stage(trainer, log, stop):
                    log.line(f"stopped at step {trainer.step}; the same command continues")
                    return INTERRUPTED
    finally:
        log.close()
    log.line(f"done: {out / 'tokenizer'}")
    return OK


def run_stage(trainer: Trainer, log: RunLog, stop: GracefulStop) -> bool:
    """Train the current stage to its end and publish; False if `stop` came first."""
    config = trainer.config
    trainer.begin_stage()
    log.line(trainer.describe())
    batches = load_batches(
        trainer.crops,
        batch_size=config.batch_size,
        seed=config.seed,
        first_step=trainer.step,
        num_steps=max(0, trainer.stage_steps - trainer.stage_step),
    )
    report = Report(trainer, log)
    for batch in batches:
        report.add(trainer.train_step(to_images(batch, trainer.device)))
        last = trainer.stage_step == trainer.stage_steps
        if last or trainer.step % config.log_every == 0:
            report.write()
        if last or trainer.step % config.eval_every == 0:
            report.evaluate()
        if stop.requested or (not last and trainer.step % config.save_every == 0):
            save_resume(config.out, trainer.step, trainer.state())
        if stop.requested:
            return False
    trainer.finish_stage()
    save_resume(config.out, trainer.step, trainer.state())
    return True


class Report:
    """Means over the steps since the last row, and the rate at which they went."""

    def __init__(self, trainer: Trainer, log: RunLog) -> None:
        self.trainer = trainer
        self.log = log
        self._restart()

    def _restart(self) -> None:
        self.sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self.num_steps = 0
        self.since = time.monotonic()

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take in one step's terms; nothing waits for a GPU here."""
        self.num_steps += 1
        for name, value in terms.items():
            self.sums[name] = self.sums[name].to(value.device) + value.detach()

    def write(self) -> None:
        """Log a row."""
        trainer = self.trainer
        images = self.num_steps * trainer.config.batch_size
        row = {name: total.item() / self.num_steps for name, total in self.sums.items()}
        row["lr"] = trainer.optimizer.param_groups[0]["lr"]
        row["images_per_second"] = images / (time.monotonic() - self.since)
        row |= trainer.usage()
        self.log.scalars(trainer.step, row)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
        stage = f"{trainer.stage_name} {trainer.stage_step}/{trainer.stage_steps}"
        self.log.line(f"{stage}  {shown}")
        self._restart()

    def evaluate(self) -> None:
        """Log PSNR and pictures of the averaged weights; the time this takes is not a step's."""
        began = time.monotonic()
        trainer = self.trainer
        result = validate(trainer.averaged(), trainer.validation, trainer.config.batch_size)
        self.log.scalars(trainer.step, result.scalars())
        self.log.picture(trainer.step, "reconstruction", result.picture)
        shown = "  ".join(f"{name} {value:.2f}" for name, value in result.scalars().items())
        self.log.line(f"validation  {shown}")
        self.since += time.monotonic() - began

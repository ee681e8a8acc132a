"""Three-stage adaptation training of DC-HT (paper, section 3.1 and Table 7): the loop.

A stage is a length, a probability of the discrete path, and what trains; it starts from a tokenizer
and publishes one. The step itself is `dcht.trainer`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dcht.checkpoint import to_dict
from dcht.command import INTERRUPTED, OK
from dcht.crops import load_batches, to_images
from dcht.curves import Panel, draw_curves, read_rows
from dcht.distributed import World, world
from dcht.run_folder import check_settings, load_resume, room_to_write, save_resume
from dcht.train_config import TrainConfig
from dcht.trainer import Trainer
from dcht.training import METRICS, GracefulStop, RunLog, SaveClock
from dcht.validation import validate

FREE_SETTINGS = frozenset(
    {"device", "log_every", "eval_every", "save_every", "save_minutes", "trackers"}
    | {"cache", "workers", "steps", "epochs"}
)
"""What may differ when a run continues. A shorter length ends the stage where it stands."""
PANELS = (
    Panel(
        "losses, unweighted",
        {name: name for name in ("l2", "l1", "lpips", "codebook", "commitment")},
        log_scale=True,
    ),
    Panel(
        "validation PSNR, dB",
        {"val_psnr_hybrid": "hybrid path", "val_psnr_discrete": "discrete path"},
    ),
    Panel(
        "validation LPIPS",
        {"val_lpips_hybrid": "hybrid path", "val_lpips_discrete": "discrete path"},
    ),
    Panel("codebook: perplexity over the window", {"perplexity": "perplexity"}),
    Panel("codebook: share of codes used", {"codebook_used": "used"}),
    Panel("adversary", {"gan": "decoder", "discriminator": "discriminator"}),
    Panel(
        "the discriminator's logits, means",
        {"logits_real": "on images", "logits_fake": "on reconstructions"},
    ),
    Panel(
        "gradient norm",
        {
            "grad_norm": "all",
            "grad_norm_reconstruction": "last layer, without the GAN",
            "grad_norm_gan": "last layer, the GAN's part",
            "grad_norm_discriminator": "discriminator",
        },
        log_scale=True,
    ),
)


def train(config: TrainConfig) -> int:
    """Run or continue the stages of `config` in `config.out`; `tokenizer/` there is the result.

    Under a launcher this is one of several ranks, and rank 0 alone writes.

    Returns:
        0 when all stages are done, 130 when a signal stopped it (the same command continues).

    Raises:
        UsageError: perceptual weights or images missing, other settings than the run began with, a
            batch that cannot be split over the ranks, or no room on the disk.
        NonFiniteLossError: a loss was not finite; the last resume file is as good as it was.
    """
    with world(config.device) as ranks, room_to_write(config.out):
        return run_stages(config, ranks)


def run_stages(config: TrainConfig, ranks: World) -> int:
    """`train`, as one of several ranks."""
    out = Path(config.out)
    resume = load_resume(out)
    check_settings(
        out,
        to_dict(config),
        free=FREE_SETTINGS,
        resuming=resume is not None,
        write=ranks.main,
    )
    trainer = Trainer(config, ranks)
    if resume is not None:
        trainer.load_state(*resume)
    log = RunLog(out, first_step=trainer.step + 1, trackers=config.trackers, active=ranks.main)
    lengths = [stage.num_steps(len(trainer.crops), config.batch_size) for stage in trainer.plan]
    if why := config.loss.never_adversarial(lengths):
        log.line(f"warning: the GAN never comes in: {why}")
    clock = SaveClock(config.save_minutes)
    try:
        with GracefulStop() as stop:
            while trainer.stage_index < len(trainer.plan):
                if not run_stage(trainer, log, stop, clock):
                    log.line(f"stopped at step {trainer.step}; the same command continues")
                    return INTERRUPTED
    finally:
        log.close()
    log.line(f"done: {out / 'tokenizer'}")
    return OK


def run_stage(trainer: Trainer, log: RunLog, stop: GracefulStop, clock: SaveClock) -> bool:
    """Train the current stage to its end and publish; False if `stop` came first."""
    config, ranks = trainer.config, trainer.world
    trainer.begin_stage()
    log.line(describe(trainer))
    batches = load_batches(
        trainer.crops,
        batch_size=config.batch_size,
        seed=config.seed,
        first_step=trainer.step,
        num_steps=max(0, trainer.stage_steps - trainer.stage_step),
        rank=ranks.rank,
        num_ranks=ranks.size,
    )
    report = Report(trainer, log)
    for batch in batches:
        report.add(trainer.train_step(to_images(batch, trainer.device)))
        last = trainer.stage_step == trainer.stage_steps
        if last or trainer.step % config.log_every == 0:
            report.write()
        if ranks.main and (last or trainer.step % config.eval_every == 0):
            report.evaluate()
        asked = time.monotonic()
        stopped = stop.agreed(ranks, log)
        report.since += time.monotonic() - asked  # a pause is no part of a step
        due = clock.due(ranks) or trainer.step % config.save_every == 0
        if stopped or (due and not last):
            if ranks.main:
                save_resume(config.out, trainer.step, trainer.state())
            clock.saved()
        if stopped:
            return False
    trainer.finish_stage()
    if ranks.main:
        save_resume(config.out, trainer.step, trainer.state())
        draw_run(config.out, [stage.name for stage in trainer.plan])
    return True


def describe(trainer: Trainer) -> str:
    """What the stage that has just begun is about to do, for whoever watches."""
    stage, config, ranks = trainer.stage, trainer.config, trainer.world
    loss = config.loss
    parts = [
        f"{name} ({sum(p.numel() for p in part.parameters()) / 1e6:.2f} M)"
        for name, part in trainer.trainable().items()
    ]
    names = ["l2", "l1", "lpips", "gan"]
    if stage.train_encoder or stage.train_codebook:
        names += ["codebook", "commitment"] if stage.discrete_prob else []
    weights = ", ".join(f"{name} {getattr(loss, name):g}" for name in names)
    start = f"step {loss.gan_start} of the run"
    if loss.gan_start_in_stage is not None:
        start = f"step {loss.gan_start_in_stage} of the stage"
    adaptive = ", times the ratio of gradients" if loss.gan_adaptive else ""
    gan = f" (gan from {start}{adaptive})" if loss.gan else ""
    where = f"{ranks.size} ranks, each on {ranks.device.type}" if ranks.size > 1 else ranks.device
    return (
        f"{trainer.stage_name}: steps {trainer.stage_step} to {trainer.stage_steps}, batches of "
        f"{config.batch_size} out of {len(trainer.crops)} images, "
        f"{stage.discrete_prob:.0%} of them on the discrete path\n"
        f"  trains: {', '.join(parts)}\n"
        f"  loss weights: {weights}{gan}\n"
        f"  on {where} in {'bf16 autocast' if trainer.bf16 else 'fp32'}"
    )


def draw_run(folder: str | Path, stages: Sequence[str]) -> None:
    """Draw `curves.png` of all that the run has logged, with the beginnings of its stages."""
    rows = read_rows(Path(folder) / METRICS)
    marks, step, number = {}, 0, None
    for row in rows:
        if "stage" in row:
            if row["stage"] != number:
                number = row["stage"]
                marks[step] = stages[int(number)]
            step = row["step"]
    draw_curves(rows, PANELS, Path(folder) / "curves.png", marks=marks)


class Report:
    """Means over the steps since the last row that had a term, and the rate at which they went."""

    def __init__(self, trainer: Trainer, log: RunLog) -> None:
        self.trainer = trainer
        self.log = log
        self._restart()

    def _restart(self) -> None:
        self.sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self.counts: dict[str, int] = defaultdict(int)
        self.num_steps = 0
        self.since = time.monotonic()

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take in one step's terms; nothing waits for a GPU here."""
        self.num_steps += 1
        for name, value in terms.items():
            self.sums[name] = self.sums[name].to(value.device) + value.detach()
            self.counts[name] += 1

    def write(self) -> None:
        """Log a row."""
        trainer = self.trainer
        images = self.num_steps * trainer.config.batch_size
        row = {name: total.item() / self.counts[name] for name, total in self.sums.items()}
        row["lr"] = trainer.optimizer.param_groups[0]["lr"]
        row["images_per_second"] = images / (time.monotonic() - self.since)
        row |= trainer.usage()
        self.log.scalars(trainer.step, row | {"stage": trainer.stage_index})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
        stage = f"{trainer.stage_name} {trainer.stage_step}/{trainer.stage_steps}"
        self.log.line(f"{stage}  {shown}")
        self._restart()

    def evaluate(self) -> None:
        """Log PSNR and pictures of the averaged weights; the time this takes is not a step's."""
        began = time.monotonic()
        trainer = self.trainer
        result = validate(
            trainer.averaged(),
            trainer.validation,
            trainer.config.batch_size,
            lpips=trainer.losses.lpips,
        )
        self.log.scalars(trainer.step, result.scalars() | {"stage": trainer.stage_index})
        self.log.picture(trainer.step, "reconstruction", result.picture)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in result.scalars().items())
        self.log.line(f"validation  {shown}")
        self.since += time.monotonic() - began

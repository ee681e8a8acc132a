"""What a run of `dcht-train` says: what it is about to do, rows of numbers, its curves."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dcht.data.entries import Entry
from dcht.engine.curves import Panel, plot_curves
from dcht.engine.metrics import METRICS, Means, read_metrics
from dcht.engine.training import RunLog
from dcht.train.publish import TOKENIZER
from dcht.train.trainer import Trainer
from dcht.train.validation import validate

PANELS = (
    Panel(
        "losses, unweighted",
        {name: name for name in ("l2", "l1", "lpips", "codebook", "commitment")}
        | {"teacher": "the large decoder's output", "features": "its features"},
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
WORSE = 0.005
"""dB by which a stage must end below the one before to be called worse: what is shown of them."""


def describe(trainer: Trainer) -> str:
    """What the stage that has just begun is about to do, for whoever watches."""
    stage, config, ranks = trainer.stage, trainer.config, trainer.world
    loss = trainer.loss
    parts = [
        f"{name} ({sum(p.numel() for p in part.parameters()) / 1e6:.2f} M)"
        for name, part in trainer.trainable().items()
    ]
    names = ["l2", "l1", "lpips", "gan"]
    names += ["teacher", "features"] if trainer.teacher is not None else []
    trained = trainer.tokenizer.require_quantizer().codebook is not None
    if trained and (stage.train_encoder or stage.train_codebook):
        names += ["codebook", "commitment"] if stage.discrete_prob else []
    weights = ", ".join(f"{name} {getattr(loss, name):g}" for name in names)
    start = f"step {loss.gan_start} of the run"
    if loss.gan_start_in_stage is not None:
        start = f"step {loss.gan_start_in_stage} of the stage"
    adaptive = ", times the ratio of gradients" if loss.gan_adaptive else ""
    gan = f" (gan from {start}{adaptive})" if loss.gan else ""
    where = f"{ranks.size} ranks, each on {ranks.device.type}" if ranks.size > 1 else ranks.device
    lines = [
        f"{trainer.stage_name}: steps {trainer.stage_step} to {trainer.stage_steps}, batches of "
        f"{config.batch_size} out of {len(trainer.crops)} images "
        f"({len(trainer.validation)} more for validation), "
        f"{stage.discrete_prob:.0%} of them on the discrete path",
        f"  trains: {', '.join(parts)}",
        f"  loss weights: {weights}{gan}",
        f"  on {where} in {'bf16 autocast' if trainer.bf16 else 'fp32'}",
    ]
    if trainer.codebook_note:
        lines.append(f"  {trainer.codebook_note}")
    return "\n".join(lines)


def say_left_out(inputs: Sequence[Entry]) -> str:
    """A sentence on inputs that cannot be trained on: how many, and the first with its reason."""
    return f"left out {len(inputs)} inputs: {inputs[0].name}: {inputs[0].problem}" + (
        ", ..." if len(inputs) > 1 else ""
    )


def log_start(trainer: Trainer, log: RunLog) -> None:
    """Log what `init_from` reconstructs, for the first stage to be held against."""
    tokenizer = copy.deepcopy(trainer.tokenizer).eval()
    if trainer.teacher is not None:
        tokenizer.decoder = trainer.teacher.decoder
    result = validate(tokenizer, trainer.validation, trainer.config.batch_size)
    log.scalars(0, result.scalars())


def word_on_the_last_stage(folder: Path, trainer: Trainer) -> str | None:
    """A sentence if the run's last stage ended worse than what it started from, else None.

    A light decoder is expected to.
    """
    if trainer.teacher is not None:
        return None
    last = len(trainer.plan) - 1
    ends: dict[Any, Mapping[str, float]] = {}
    for row in read_metrics(folder / METRICS):
        if "val_psnr_hybrid" in row:
            ends[row.get("stage")] = row
    after, before = ends.get(last), ends.get(last - 1 if last else None)
    if after is None or before is None:
        return None
    worse = [
        f"{path} path {after[name]:.2f} dB, before {before[name]:.2f} dB"
        for path in ("hybrid", "discrete")
        if after[name := f"val_psnr_{path}"] < before[name] - WORSE
    ]
    if not worse:
        return None
    start = trainer.plan[last - 1].name if last else f"init_from={trainer.config.init_from}"
    return (
        f"{trainer.plan[last].name} made the held-out images worse than {start}: "
        f"{'; '.join(worse)}. {folder / TOKENIZER} is the last stage all the same"
    )


def plot_run(folder: str | Path, stages: Sequence[str]) -> None:
    """Draw `curves.png` of all that the run has logged, with the beginnings of its stages."""
    rows = read_metrics(Path(folder) / METRICS)
    marks, step, number = {}, 0, None
    for row in rows:
        if "stage" in row:
            if row["stage"] != number:
                number = row["stage"]
                marks[step] = stages[int(number)]
            step = row["step"]
    plot_curves(rows, PANELS, Path(folder) / "curves.png", marks=marks)


class Report:
    """Means over the steps since the last row, and the rate at which they went."""

    def __init__(self, trainer: Trainer, log: RunLog, resumed: Mapping[str, Any] | None) -> None:
        """Begin; or, where a run was stopped between two rows, continue from `state()`."""
        self.trainer = trainer
        self.log = log
        self.means = Means()
        self.since = time.monotonic()
        if resumed is not None:
            self.means.load_state(resumed)
            self.since -= resumed["seconds"]

    def state(self) -> dict[str, Any]:
        """What the next row needs of the steps that are done."""
        return {**self.means.state(), "seconds": time.monotonic() - self.since}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take in one step's terms; nothing waits for a GPU here."""
        self.means.add(terms)

    def write(self) -> None:
        """Log a row."""
        trainer = self.trainer
        images = self.means.num_steps * trainer.config.batch_size
        row = self.means.take()
        row["lr"] = trainer.optimizer.param_groups[0]["lr"]
        row["images_per_second"] = images / (time.monotonic() - self.since)
        row |= trainer.usage()
        self.log.scalars(trainer.step, row | {"stage": trainer.stage_index})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
        stage = f"{trainer.stage_name} {trainer.stage_step}/{trainer.stage_steps}"
        self.log.line(f"{stage}  {shown}")
        self.since = time.monotonic()

    def evaluate(self) -> None:
        """Log PSNR and images of the averaged weights; the time this takes is not a step's."""
        began = time.monotonic()
        trainer = self.trainer
        result = validate(
            trainer.averaged(),
            trainer.validation,
            trainer.config.batch_size,
            lpips=trainer.losses.lpips,
        )
        self.log.scalars(trainer.step, result.scalars() | {"stage": trainer.stage_index})
        self.log.image(trainer.step, "reconstruction", result.image)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in result.scalars().items())
        self.log.line(f"validation  {shown}")
        self.since += time.monotonic() - began

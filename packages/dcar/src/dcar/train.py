"""Training DCAR (section 3.2, Table 8): the loop, on one process or under a launcher.

The step is `dcar.trainer`, what several ranks do with a model `dcar.parallel`, what a run
continues from `dcar.resume`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from dcar.evaluations import Evaluation, load_evaluations
from dcar.pipeline import TextToImage
from dcar.previews import draw_prompts, draw_reconstructions
from dcar.progress import Progress, describe, plot_run
from dcar.publish import publish
from dcar.resume import ResumeFolder
from dcar.train_config import TrainConfig
from dcar.trainer import Trainer
from dcht.checkpoint import to_dict
from dcht.command import INTERRUPTED, OK
from dcht.distributed import World, world
from dcht.run_folder import check_settings, room_to_write
from dcht.training import GracefulStop, RunLog, SaveClock

FREE_SETTINGS = frozenset(
    {
        "accumulate", "activation_checkpointing", "compile", "device", "evaluate_every",
        "evaluations", "force", "keep_saves", "log_every", "out", "parallel", "prompts",
        "reconstructions", "sample_every", "save_every", "save_minutes", "text_cache", "trackers",
    }
)  # fmt: skip
"""What may differ when a run continues: nothing that a finished step depended on, but for the
last bits of a sum."""


def train(config: TrainConfig) -> int:
    """Run or continue a run in `config.out`; `checkpoint/` there is the result.

    Returns:
        0 when all steps are done, 130 when a signal stopped it (the same command continues).

    Raises:
        UsageError: data or captions missing, other settings than the run began with, or a disk
            that cannot be written to.
        CheckpointError: a tokenizer, data or weights that do not belong together.
        NonFiniteLossError: a loss was not finite; weights are as of the last save.
    """
    with world(config.device) as ranks, room_to_write(config.out):
        return _train(config, ranks)


def _train(config: TrainConfig, ranks: World) -> int:
    out = Path(config.out)
    saves = ResumeFolder(out / "resume", ranks, keep=config.keep_saves)
    if config.force:
        saves.clear()
    newest = saves.newest()
    settings = to_dict(config)
    check_settings(out, settings, free=FREE_SETTINGS, resuming=newest is not None, write=ranks.main)
    trainer = Trainer(config, ranks)
    if newest is not None:
        trainer.load(newest)
    first = trainer.step + 1  # the step that was saved has its row
    log = RunLog(out, first_step=first, trackers=config.trackers, active=ranks.main)
    try:
        for line in describe(trainer):
            log.line(line)
        with GracefulStop() as stop, saves:
            finished = run(trainer, saves, log, stop)
        if not finished:
            log.line(f"stopped at step {trainer.step}; the same command continues")
            return INTERRUPTED
        if ranks.main and trainer.step >= first:
            plot_run(out)
        log.line(f"done: {out / 'checkpoint'}")
        return OK
    finally:
        log.close()


def run(trainer: Trainer, saves: ResumeFolder, log: RunLog, stop: GracefulStop) -> bool:
    """Train to the last step; False if `stop` came first. Either way the state is saved."""
    config = trainer.config
    evaluations = load_evaluations(config.evaluations)
    if trainer.step == config.steps:
        # Finished before: nothing to do but name the tokenizer where it is now.
        publish(trainer)
    progress, clock = Progress(trainer), SaveClock(config.save_minutes)
    while trainer.step < config.steps:
        start = time.monotonic()
        progress.add(trainer.train_step(), time.monotonic() - start)
        last = trainer.step == config.steps
        if last or trainer.step % config.log_every == 0:
            row = progress.take()
            log.scalars(trainer.step, row)
            log.line(progress.shown(row))
        if last or trainer.step % config.sample_every == 0:
            show(trainer, log)
        if evaluations and (last or trainer.step % config.evaluate_every == 0):
            evaluate(trainer, evaluations, log)
        stopping = stop.agreed(trainer.world, log)
        due = clock.due(trainer.world) or trainer.step % config.save_every == 0
        if stopping or last or due:
            # Nothing trains meanwhile at the end: then a save needs no copy in memory.
            trainer.save(saves, wait=stopping or last)
            publish(trainer)
            clock.saved()
        saves.poll()
        if stopping and not last:
            return False
    return True


def show(trainer: Trainer, log: RunLog) -> None:
    """Log pictures of the fixed prompts and of training images; rank 0 draws."""
    config = trainer.config
    pipe = averaged_pipe(trainer)
    if trainer.world.main:
        if config.prompts:
            picture = draw_prompts(pipe, config.prompts, seed=config.seed)
            log.picture(trainer.step, "prompts", picture)
        if config.reconstructions:
            count = config.reconstructions
            picture = draw_reconstructions(pipe, trainer.data, count=count, seed=config.seed)
            log.picture(trainer.step, "reconstructions", picture)
    trainer.world.barrier()


def evaluate(trainer: Trainer, evaluations: Mapping[str, Evaluation], log: RunLog) -> None:
    """Log what evaluations measure; rank 0 draws."""
    pipe = averaged_pipe(trainer)
    if trainer.world.main:
        for name, evaluation in evaluations.items():
            out = Path(trainer.config.out) / "evaluations" / f"{name}-{trainer.step:07d}"
            measured = evaluation(pipe, seed=trainer.config.seed, out=out)
            row = {f"{name}/{key}": value for key, value in measured.items()}
            log.scalars(trainer.step, row)
            log.line("  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    trainer.world.barrier()


def averaged_pipe(trainer: Trainer) -> TextToImage:
    """A pipeline of the averaged weights; all ranks call this together."""
    model, text = trainer.averaged()
    sampling = trainer.config.sampling
    return TextToImage(model, text, trainer.tokenizer, sampling=sampling, size=trainer.size)

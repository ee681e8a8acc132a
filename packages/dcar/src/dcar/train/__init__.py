"""Training DCAR (section 3.2, Table 8): the loop, on one process or under a launcher.

The step is `dcar.train.trainer`, what several ranks do with a model `dcar.train.parallel`, what a
run continues from `dcar.train.resume`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from dcar.pipeline import TextToImage
from dcar.train.evaluate import (
    Evaluation,
    compare_reconstructions,
    generate_samples,
    load_evaluations,
    measure,
    require_applicable,
)
from dcar.train.log import Progress, describe, plot_run
from dcar.train.publish import publish
from dcar.train.resume import ResumeFolder
from dcar.train.trainer import Trainer
from dcar.train_config import TrainConfig
from dcht.checkpoint import to_dict
from dcht.engine.distributed import World, world
from dcht.engine.metrics import METRICS, read_metrics
from dcht.engine.run_folder import check_settings, room_to_write, sole_run, write_settings
from dcht.engine.training import SAMPLES, GracefulStop, RunLog, SaveClock
from dcht.errors import UsageError

EVALUATIONS = "evaluations"
"""The folder of a run for what evaluations keep."""

FREE_SETTINGS = frozenset(
    {
        "accumulate", "activation_checkpointing", "compile", "device", "evaluate_every",
        "evaluations", "force", "keep_saves", "log_every", "out", "parallel", "prompts",
        "reconstructions", "sample_every", "save_every", "save_minutes", "text_cache", "trackers",
    }
)  # fmt: skip
"""What may differ when a run continues: nothing that a finished step depended on, but for the
last bits of a sum."""


def train(config: TrainConfig) -> bool:
    """Run or continue a run in `config.out`; `checkpoint/` there is the result.

    Returns:
        Whether all steps are done; False: a signal stopped it, and the same settings continue.

    Raises:
        UsageError: data or captions missing, other settings or data than the run began with, an
            evaluation that does not apply, a run that another process is writing, or a disk that
            cannot be written to.
        CheckpointError: a tokenizer, data or weights that do not belong together.
        NonFiniteLossError: a loss was not finite; weights are as of the last save.
    """
    with (
        world(config.device) as ranks,
        room_to_write(config.out),
        sole_run(config.out, ranks),
    ):
        return _train(config, ranks)


def _train(config: TrainConfig, ranks: World) -> bool:
    out, settings = Path(config.out), to_dict(config)
    saves = ResumeFolder(out / "resume", ranks, keep=config.keep_saves)
    newest, facts = saves.newest(), {}
    # What `force` replaces has other settings or other data: a run of this command continues.
    replaced = (UsageError,) if config.force else ()
    try:
        check_settings(out, settings, free=FREE_SETTINGS, resuming=newest is not None, write=False)
    except replaced:
        newest = None
    evaluations = load_evaluations(config.evaluations)
    trainer = Trainer(config, ranks)
    try:
        if newest is not None:
            facts = trainer.load(newest)
    except replaced:
        newest = None
    progress = Progress(trainer, facts.get("progress"))
    if evaluations:
        pipe = averaged_pipe(trainer)
        ranks.on_main(lambda: require_applicable(evaluations, pipe))
    # The step that was saved has its row.
    first = 0 if newest is None else trainer.step + 1
    log = RunLog(out, first_step=first, trackers=config.trackers, active=ranks.main)
    try:
        # Nothing was refused: only now does a run that starts anew lose what was there.
        if config.force and newest is None:
            saves.clear()
            if ranks.main:
                for name in (SAMPLES, EVALUATIONS):
                    shutil.rmtree(out / name, ignore_errors=True)
        if ranks.main:
            write_settings(out, settings)
        for line in describe(trainer):
            log.line(line)
        with GracefulStop() as stop, saves:
            finished = Run(trainer, saves, log, evaluations, progress).finish(stop)
        if not finished:
            log.line(f"stopped at step {trainer.step}; the same command continues")
            return False
        if ranks.main and trainer.step >= first:
            plot_run(out)
        log.line(f"done: {out / 'checkpoint'}")
        return True
    finally:
        log.close()


@dataclass
class Run:
    """A run on its way from step to step."""

    trainer: Trainer
    saves: ResumeFolder
    log: RunLog
    evaluations: Mapping[str, Evaluation]
    progress: Progress

    def finish(self, stop: GracefulStop) -> bool:
        """Train to the last step; False if `stop` came first. Either way the state is saved."""
        trainer, config, progress = self.trainer, self.trainer.config, self.progress
        if trainer.step == config.steps:
            # Finished before: nothing to do but name the tokenizer where it is now.
            publish(trainer)
        if trainer.step:
            # What a run had no time for, that was killed behind its save.
            there = trainer.world.on_main(self._there)
            self._look(there)
        elif config.init_from != "scratch":
            # What it starts from, for the first samples to be held against.
            self._log_images()
            if self.evaluations:
                self._evaluate(self.evaluations)
        clock = SaveClock(config.save_minutes)
        while trainer.step < config.steps:
            start = time.monotonic()
            progress.add(trainer.train_step(), time.monotonic() - start)
            last = trainer.step == config.steps
            if last or trainer.step % config.log_every == 0:
                row = progress.take()
                self.log.scalars(trainer.step, row)
                self.log.line(progress.shown(row))
            stopping = stop.agreed(trainer.world, self.log)
            due = clock.due(trainer.world) or trainer.step % config.save_every == 0
            if stopping or last or due:
                # Written in the background it is copied first: not where nothing trains meanwhile,
                # or where the copy would be in the memory that the model itself is in.
                wait = stopping or last or trainer.device.type == "cpu"
                trainer.save(self.saves, progress.state(), wait=wait)
                publish(trainer)
                clock.saved()
            self.saves.poll()
            if stopping and not last:
                return False
            self._look()
        return True

    def _look(self, there: Collection[str] = ()) -> None:
        """Draw and measure what is due at this step, and not there yet.

        The step is saved before, if it is to be: whatever fails here is said, and costs nothing.
        """
        trainer, config = self.trainer, self.trainer.config
        last = trainer.step == config.steps
        if (last or trainer.step % config.sample_every == 0) and SAMPLES not in there:
            self._log_images()
        wanted = {k: value for k, value in self.evaluations.items() if k not in there}
        if wanted and (last or trainer.step % config.evaluate_every == 0):
            self._evaluate(wanted)

    def _there(self) -> set[str]:
        """What this step has already: images, and names of evaluations."""
        out, step = Path(self.trainer.config.out), self.trainer.step
        rows = [row for row in read_metrics(out / METRICS) if row["step"] == step]
        found = {key.partition("/")[0] for row in rows for key in row if "/" in key}
        if all((out / SAMPLES / f"{name}-{step:07d}.png").exists() for name in self._image_names()):
            found.add(SAMPLES)
        return found

    def _image_names(self) -> list[str]:
        """The names of the images of a step."""
        config = self.trainer.config
        wanted = {"prompts": config.prompts, "reconstructions": config.reconstructions}
        return [name for name, count in wanted.items() if count]

    def _log_images(self) -> None:
        """Log images of the fixed prompts and of training images; on rank 0."""
        trainer, config = self.trainer, self.trainer.config
        if not self._image_names():
            return
        pipe = averaged_pipe(trainer)
        if trainer.world.main:
            try:
                if config.prompts:
                    image = generate_samples(pipe, config.prompts, seed=config.seed)
                    self.log.image(trainer.step, "prompts", image)
                if config.reconstructions:
                    count = config.reconstructions
                    image = compare_reconstructions(
                        pipe, trainer.data, count=count, seed=config.seed
                    )
                    self.log.image(trainer.step, "reconstructions", image)
            except Exception as error:
                self._failed("the images", error)
        trainer.world.barrier()

    def _evaluate(self, evaluations: Mapping[str, Evaluation]) -> None:
        """Log what evaluations measure; on rank 0."""
        trainer = self.trainer
        pipe = averaged_pipe(trainer)
        for name, evaluation in evaluations.items() if trainer.world.main else ():
            out = Path(trainer.config.out) / EVALUATIONS / f"{name}-{trainer.step:07d}"
            try:
                measured = measure(evaluation, pipe, seed=trainer.config.seed, out=out)
            except (Exception, SystemExit) as error:
                self._failed(f"evaluation {name}", error)
                measured = {"failed": 1.0}
            row = {f"{name}/{key}": value for key, value in measured.items()}
            self.log.scalars(trainer.step, row)
            self.log.line("  ".join(f"{key} {value:.4g}" for key, value in row.items()))
        trainer.world.barrier()

    def _failed(self, what: str, error: BaseException) -> None:
        self.log.line(
            f"{what} of step {self.trainer.step} failed, and the run goes on: "
            f"{type(error).__name__}: {error}"
        )


def averaged_pipe(trainer: Trainer) -> TextToImage:
    """A pipeline of the averaged weights; all ranks call this together."""
    model, text = trainer.averaged()
    settings = trainer.config
    return TextToImage(
        model,
        text,
        trainer.tokenizer,
        sampling=settings.sampling,
        size=trainer.size,
        rounding=settings.rounding,
    )

"""Three-stage adaptation training of DC-HT (paper, section 3.1 and Table 7): the loop.

A stage is a length, a probability of the discrete path, and what trains; it starts from a tokenizer
and publishes one. The step itself is `dcht.train.trainer`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from dcht.checkpoint import from_dict, to_dict
from dcht.engine.distributed import World, world
from dcht.engine.run_folder import (
    SETTINGS,
    check_settings,
    newest_resume,
    room_to_write,
    save_resume,
    sole_run,
    write_settings,
)
from dcht.engine.training import GracefulStop, RunLog, SaveClock
from dcht.errors import UsageError
from dcht.files import read_json
from dcht.train.dataset import load_batches, to_images
from dcht.train.log import (
    Report,
    describe,
    log_start,
    plot_run,
    say_left_out,
    word_on_the_last_stage,
)
from dcht.train.publish import TOKENIZER
from dcht.train.resume import resume_from, state_of
from dcht.train.trainer import Trainer
from dcht.train_config import TrainConfig

FREE_SETTINGS = frozenset(
    {"device", "out", "log_every", "eval_every", "save_every", "save_minutes", "trackers"}
    | {"cache", "workers", "steps", "epochs"}
)
"""What may differ when a run continues. A shorter length ends the stage where it stands."""


def train(config: TrainConfig) -> bool:
    """Run or continue the stages of `config` in `config.out`; `tokenizer/` there is the result.

    Under a launcher this is one of several ranks, and rank 0 alone writes.

    Returns:
        Whether all stages are done; False: a signal stopped it, and the same settings continue.

    Raises:
        UsageError: perceptual weights or images missing, other settings or images than the run
            began with, a batch that cannot be split over the ranks, a run that another process is
            writing, or no room on the disk.
        CheckpointError: `init_from` or what the run continues from is damaged.
        NonFiniteLossError: a loss was not finite; the last resume file is as good as it was.
    """
    with (
        world(config.device) as ranks,
        room_to_write(config.out),
        sole_run(config.out, ranks),
    ):
        return run_stages(config, ranks)


def run_stages(config: TrainConfig, ranks: World) -> bool:
    """`train`, as one of several ranks."""
    out, settings = Path(config.out), to_dict(config)
    resume = newest_resume(out)
    check_settings(out, settings, free=FREE_SETTINGS, resuming=resume is not None, write=False)
    trainer = Trainer(config, ranks)
    first_step, report_state = 0, None
    if resume is not None:
        report_state = resume_from(trainer, resume)
        first_step = trainer.step + 1
    lengths = trainer.lengths(config)
    if resume is not None:
        refuse_other_ends(trainer, read_json(out / SETTINGS), lengths)
    log = RunLog(out, first_step=first_step, trackers=config.trackers, active=ranks.main)
    if trainer.left_out:
        log.line(say_left_out(trainer.left_out))
    if why := never_adversarial(config, lengths):
        log.line(f"warning: the GAN never comes in: {why}")
    clock = SaveClock(config.save_minutes)
    try:
        if ranks.main:
            write_settings(out, settings)  # nothing was refused
            if resume is None and config.init_from is not None:
                log_start(trainer, log)
        with GracefulStop() as stop:
            while trainer.stage_index < len(trainer.plan):
                if not run_stage(trainer, log, stop, clock, report_state):
                    log.line(f"stopped at step {trainer.step}; the same command continues")
                    return False
                report_state = None
        if ranks.main and (word := word_on_the_last_stage(out, trainer)):
            log.line(word)
    finally:
        log.close()
    log.line(f"done: {out / TOKENIZER}")
    return True


def refuse_other_ends(trainer: Trainer, before: dict[str, Any], lengths: list[int]) -> None:
    """Refuse another length of a stage that has ended: it would be passed over in silence.

    Raises:
        UsageError: naming the stage.
    """
    out = trainer.config.out
    known = trainer.lengths(from_dict(TrainConfig, before, str(out)))
    ended = zip(trainer.plan, known, lengths, strict=False)
    for stage, old, new in islice(ended, trainer.stage_index):
        if old != new:
            raise UsageError(
                f"{stage.name} has ended in {out} after {old:,} steps, and cannot have {new:,}; "
                f"to train on, choose another out= and init_from={out}/{TOKENIZER}"
            )


def never_adversarial(config: TrainConfig, lengths: list[int]) -> str | None:
    """Why the GAN stays out of a run whose stages have these lengths; None: it does not."""
    losses = [config.loss_of(planned.settings) for planned in config.plan()]
    with_gan = [number for number, loss in enumerate(losses) if loss.gan]
    if not with_gan:
        return None
    loss = losses[with_gan[-1]]
    if loss.gan_start_in_stage is not None:
        return loss.never_adversarial([lengths[number] for number in with_gan])
    return loss.never_adversarial(lengths[: with_gan[-1] + 1])


def run_stage(
    trainer: Trainer,
    log: RunLog,
    stop: GracefulStop,
    clock: SaveClock,
    report_state: Mapping[str, Any] | None,
) -> bool:
    """Train the current stage to its end and publish; False if `stop` came first."""
    config, ranks = trainer.config, trainer.world
    trainer.begin_stage()
    for line in describe(trainer).splitlines():
        log.line(line)
    batches = load_batches(
        trainer.crops,
        batch_size=config.batch_size,
        seed=config.seed,
        first_step=trainer.step,
        num_steps=max(0, trainer.stage_steps - trainer.stage_step),
        rank=ranks.rank,
        num_ranks=ranks.size,
    )
    report = Report(trainer, log, report_state)
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
                state = state_of(trainer) | {"report": report.state()}
                save_resume(config.out, trainer.step, state)
            clock.saved()
        if stopped:
            return False
    trainer.finish_stage()
    if ranks.main:
        save_resume(config.out, trainer.step, state_of(trainer))
        plot_run(config.out, [stage.name for stage in trainer.plan])
    return True

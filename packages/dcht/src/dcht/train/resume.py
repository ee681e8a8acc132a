"""What a tokenizer's training resumes from, and whether it may."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dcht.checkpoint import module_sha256
from dcht.engine.run_folder import fitting_state, read_resume
from dcht.engine.training import load_optimizer
from dcht.errors import UsageError
from dcht.train.publish import TOKENIZER
from dcht.train.trainer import Trainer


def state_of(trainer: Trainer) -> dict[str, Any]:
    """All that resuming needs, for `load_state`."""
    return {
        "contents": trainer.contents,
        "lpips": _lpips_sha256(trainer),
        "stage_index": trainer.stage_index,
        "stage_step": trainer.stage_step,
        "stage_steps": trainer.stage_steps if trainer.stage_step else None,
        "tokenizer": trainer.tokenizer.state_dict(),
        "residual_std": trainer.tokenizer.config.residual_std,
        "teacher": trainer.teacher and trainer.teacher.projections.state_dict(),
        "discriminator": trainer.discriminator.state_dict(),
        "discriminator_optimizer": trainer.discriminator_optimizer.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "ema": trainer.ema.state_dict(),
        "window": trainer.window.indices,
    }


def _lpips_sha256(trainer: Trainer) -> str | None:
    lpips = trainer.losses.lpips
    return None if lpips is None else module_sha256(lpips)


def resume_from(trainer: Trainer, path: Path) -> Any:
    """Continue from a file that a run saved. What was read is not kept: it is as large as the run.

    Returns:
        The state of the run's `Report`.

    Raises:
        UsageError: the images or LPIPS's weights have changed since, or, under a cosine, the
            stage's length.
        CheckpointError: the file is damaged.
    """
    with fitting_state(path):
        step, state = read_resume(path)
        load_state(trainer, step, state)
        return state.get("report")


def load_state(trainer: Trainer, step: int, state: dict[str, Any]) -> None:
    """Continue where `state_of` was asked.

    Raises:
        UsageError: the images or LPIPS's weights have changed since, or, under a cosine, the
            stage's length.
        LookupError, TypeError, ValueError, RuntimeError: it is the state of something else.
    """
    out = trainer.config.out
    # A state that does not say was saved before this was asked.
    if state.get("contents", trainer.contents) != trainer.contents:
        raise UsageError(
            f"the images in {trainer.config.data.root} are not those that the run in {out} began "
            f"with; choose another out=, and start from its result with init_from={out}/{TOKENIZER}"
        )
    now = _lpips_sha256(trainer)
    if state.get("lpips", now) != now:
        raise UsageError(
            f"LPIPS has other weights than the run in {out} began with; name those with "
            "loss.lpips_weights=, or choose another out="
        )
    trainer.step = step
    trainer.stage_index, trainer.stage_step = state["stage_index"], state["stage_step"]
    if not 0 <= trainer.stage_index <= len(trainer.plan) or trainer.stage_step < 0:
        raise ValueError(f"stage {trainer.stage_index}, step {trainer.stage_step}")
    tokenizer = trainer.tokenizer
    tokenizer.load_state_dict(state["tokenizer"])
    tokenizer.config = replace(tokenizer.config, residual_std=state["residual_std"])
    if trainer.teacher is not None:
        trainer.teacher.projections.load_state_dict(state["teacher"])
    trainer.discriminator.load_state_dict(state["discriminator"])
    load_optimizer(trainer.discriminator_optimizer, state["discriminator_optimizer"])
    # Between two stages there is no optimizer to continue: every stage begins with its own.
    trainer.continues = trainer.stage_step > 0
    if trainer.continues:
        _require_same_rates(trainer, state.get("stage_steps"))
        trainer.ready_stage()
        load_optimizer(trainer.optimizer, state["optimizer"])
        trainer.ema.load_state_dict(state["ema"])
        trainer.window.add(state["window"])
        trainer.window.counts()


def _require_same_rates(trainer: Trainer, before: int | None) -> None:
    constant = trainer.config.optimizer.final_lr is None
    if constant or before is None or before == trainer.stage_steps:
        return
    raise UsageError(
        f"{trainer.stage_name} has {trainer.stage_steps} steps, and had {before} when the run in "
        f"{trainer.config.out} took the first {trainer.stage_step} of them, whose rates follow a "
        f"cosine over all; keep {before}, or choose another out="
    )

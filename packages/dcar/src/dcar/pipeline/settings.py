"""What a caller may set, by name: once for the Python calls and the command line."""

from __future__ import annotations

import math
from dataclasses import replace
from enum import Enum
from numbers import Real
from types import NoneType
from typing import Any, TypedDict, get_args, get_type_hints

import torch

from dcar.sampling_config import (
    LEAST_DDPM_STEPS,
    Guidance,
    HeadGuidance,
    Order,
    SamplingConfig,
    Schedule,
    Selector,
    Solver,
    with_preset,
)
from dcht.errors import UsageError


class DiffusersNames(TypedDict, total=False):
    """What diffusers calls the same, taken beside our names."""

    num_inference_steps: int
    """`num_steps`."""
    guidance_scale: float
    """1 + `cfg_scale`, in (1 - g) u + g c; none up to 1, as there."""


class Settings(DiffusersNames, total=False):
    """How images are sampled, in place of the checkpoint's; `SamplingConfig` explains each.

    What is not given comes from the preset, if there is one, and else from the checkpoint, which
    has the paper's values (12 steps, guidance 4.5, temperature 4.5, 20 diffusion steps) unless it
    says otherwise. Enums may be given by value.
    """

    preset: str
    num_steps: int
    cfg_scale: float
    guidance: Guidance | str
    interval_low: float
    interval_high: float
    head_guidance: HeadGuidance | str
    temperature: float
    final_temperature: float
    confidence_temperature: float | None
    num_diffusion_steps: int
    solver: Solver | str
    head_temperature: float
    order: Order | str
    stage_steps: list[int] | None
    stage_order: Order | str
    schedule: Schedule | str
    logit_annealing: bool
    extra_pass: bool
    fts: Selector | str | None
    fts_share: float
    fts_steps: int


class Options(Settings, total=False):
    """`Settings`, and what a series of images is made of; `TextToImage.__call__` explains them."""

    seed: int
    num_images: int
    generator: torch.Generator
    batch_size: int
    first_index: int


def resolve(base: SamplingConfig, given: Settings, *, any_steps: bool = False) -> SamplingConfig:
    """`base` with what is given in its place; `any_steps` for who measures what few steps do.

    Raises:
        UsageError: a number out of range, a choice that is not known, one setting by two names, or
            too few steps of DDPM.
        TypeError: a name that is no setting.
    """
    changes: dict[str, Any] = _our_names({**given})
    own = base
    if (preset := changes.pop("preset", None)) is not None:
        base = with_preset(base, preset)
    kinds = get_type_hints(SamplingConfig)
    changes = {name: _value(name, kinds.get(name), value) for name, value in changes.items()}
    if not changes.get("solver", Solver.ddpm).adds_noise:
        # The checkpoint's factor is of a noise that the solver asked for does not add.
        base = replace(base, head_temperature=1.0)
    chosen = replace(base, **changes)
    if not any_steps:
        _check_ddpm(chosen, own)
    return chosen


def _our_names(given: dict[str, Any]) -> dict[str, Any]:
    """Settings with diffusers' names in place of none of ours.

    Raises:
        UsageError: one setting by both names.
    """
    for theirs, ours in (("num_inference_steps", "num_steps"), ("guidance_scale", "cfg_scale")):
        if theirs not in given:
            continue
        if ours in given:
            raise UsageError(f"{theirs} is diffusers' name of {ours}: give one of them")
        value = given.pop(theirs)
        if theirs == "guidance_scale" and isinstance(value, Real):
            value = max(0.0, float(value) - 1.0)
        given[ours] = value
    return given


def seed_of(seed: int | None, generator: torch.Generator | None) -> int:
    """The seed of a series of images, which diffusers gives as a `generator`.

    One as it was made stands for the seed it was made with; each use moves it on, as it does there,
    so that a second call with it makes other images.

    Raises:
        UsageError: both are given, or a list of generators.
    """
    if generator is None:
        return 0 if seed is None else seed
    if seed is not None:
        raise UsageError("generator is diffusers' name of seed: give one of them")
    if not isinstance(generator, torch.Generator):
        raise UsageError(
            f"generator is a {type(generator).__name__}; give one torch.Generator: image k depends "
            "on its seed and k"
        )
    first = generator.initial_seed()
    fresh = torch.Generator(generator.device).manual_seed(first).get_state()
    used = not torch.equal(fresh, generator.get_state())
    drawn = int(torch.randint(1 << 31, (), generator=generator, device=generator.device))
    return drawn if used else first


def _check_ddpm(chosen: SamplingConfig, own: SamplingConfig) -> None:
    """Refuse so few steps of DDPM that the residual is noise.

    A checkpoint that is itself sampled with fewer is taken at its word.
    """
    steps = _ddpm_steps(chosen)
    if steps < LEAST_DDPM_STEPS <= _ddpm_steps(own):
        name = "num_diffusion_steps" if steps == chosen.num_diffusion_steps else "fts_steps"
        raise UsageError(
            f"{name} is {steps}; solver ddpm needs {LEAST_DDPM_STEPS} (with 2 it makes noise): "
            "take more, or solver dpmpp (DPM-Solver++), which starts where there is signal"
        )


def _ddpm_steps(settings: SamplingConfig) -> float:
    """Steps of DDPM where an image has the fewest; infinite with another solver."""
    if settings.solver is not Solver.ddpm:
        return math.inf
    short = settings.num_diffusion_steps if settings.fts is None else settings.fts_steps
    return min(settings.num_diffusion_steps, short)


def _value(name: str, kind: Any, value: Any) -> Any:
    """A setting as its field has it: a choice may come by its value."""
    if kind is bool and not isinstance(value, bool):
        raise UsageError(f"{name} is {value!r}; expected True or False")
    kinds = get_args(kind) or (kind,)
    choices = next(option for option in kinds if option is not NoneType)
    absent = value is None and NoneType in kinds
    if absent or not (isinstance(choices, type) and issubclass(choices, Enum)):
        return value
    try:
        return choices(value)
    except ValueError:
        known = ", ".join(member.value for member in choices)
        raise UsageError(f"{name} {value!r} is not known; use {known}") from None

"""How an image is generated: the settings of `dcar.sampler` and the presets that name some of them.

Defaults are the paper's (appendix A.2); what it leaves open says so. A checkpoint's `config.json`
and every PNG hold these settings, so a new field needs a default that means what was done before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum
from numbers import Real
from typing import Annotated, Any, assert_never

from dcht.errors import UsageError
from dcht.ranges import Length, Range, check_ranges

STEPS = Range(1, 4096)
SCALE = Range(0, 1000)
SHARE = Range(0, 1)


class Schedule(Enum):
    """Share of the tokens that is still masked after a share r of the steps is done."""

    arccos = "arccos"
    """arccos(r) / (pi / 2), MaskGIT's arccos: few tokens a step, many in the last one."""
    cosine = "cosine"
    """cos(r pi / 2), MaskGIT's default."""
    linear = "linear"
    """1 - r: the same number in every step, as GtR reveals a stage."""


class Order(Enum):
    """Which of the hidden tokens a step reveals."""

    confidence = "confidence"
    """The most confident ones, with annealed Gumbel noise on the confidence (the paper)."""
    random = "random"
    """Any: a uniformly random choice, as in MAR."""
    halton = "halton"
    """Along a 2-D Halton sequence from a random point of it (arXiv 2503.17076)."""
    gtr = "gtr"
    """Stage by stage, the last stage one color of the checkerboard (arXiv 2510.17171)."""


class Guidance(Enum):
    """How `cfg_scale` goes with the steps."""

    constant = "constant"
    """The same in every step (the paper)."""
    linear = "linear"
    """0 in the first step, growing by the same amount to the last (1d-tokenizer, the release)."""
    interval = "interval"
    """On from `interval_high` to `interval_low`, off elsewhere (eMIGM): fewer passes."""


class HeadGuidance(Enum):
    """Guidance of the residual head. It needs a last step that was guided."""

    same = "same"
    """`cfg_scale`, as the logits have it."""
    off = "off"
    """None: half the work."""
    release = "release"
    """As `same`, but none at a `cfg_scale` of exactly 1: how the published release reads 1."""


class Solver(Enum):
    """How the residual head goes from noise to a residual."""

    ddpm = "ddpm"
    """Ancestral steps of the respaced chain (MAR, the release): the reference."""
    ddim = "ddim"
    """DDIM without noise (arXiv 2010.02502)."""
    dpmpp = "dpmpp"
    """DPM-Solver++(2M), second order, without noise (arXiv 2211.01095): 8 steps are enough."""

    @property
    def adds_noise(self) -> bool:
        """Whether its steps add noise to what they denoise."""
        match self:
            case Solver.ddpm:
                return True
            case Solver.ddim | Solver.dpmpp:
                return False
            case _:
                assert_never(self)


MAX_STEPS = {Solver.ddpm: 1000, Solver.ddim: 100, Solver.dpmpp: 100}
"""More have no timesteps of their own: those of the last two are not evenly spaced."""


LEAST_DDPM_STEPS = 8
"""Fewer are refused where they are asked for: DDPM starts at timestep 999, where there is no signal
to predict from, and needs steps to forget what was said there. Measured on release 0.1.0's
(docs/sampling.md): with 8 steps what 20 have, with 4 a decibel less, with 2 noise."""


class Selector(Enum):
    """Which positions FTS gives the long diffusion schedule: those with the highest score."""

    frequency = "frequency"
    """High frequencies in the channel spectrum of the head's condition (GtR)."""
    norm = "norm"
    """Length of the condition: what a white spectrum makes of `frequency`."""
    entropy = "entropy"
    """Entropy of the predicted codes."""
    random = "random"
    """Any: the baseline that the others have to beat."""


@dataclass(kw_only=True)
class SamplingConfig:
    """How an image is generated (appendix A.2)."""

    num_steps: Annotated[int, STEPS] = 12
    """Passes of the transformer."""
    cfg_scale: Annotated[float, SCALE] = 4.5
    """s in (1 + s) conditional - s unconditional, for the logits and the head; 0 is off. A scale w
    of the other convention, unconditional + w (conditional - unconditional), is w - 1 here."""
    guidance: Guidance = Guidance.constant
    interval_low: float = 0.15
    """The other end of `interval_high`'s interval."""
    interval_high: float = 0.35
    """`Guidance.interval`: guided while the share of the steps that is left, this one included, is
    within both. eMIGM's at 512 px; at 256 px it has 0.1 and 0.3."""
    head_guidance: HeadGuidance = HeadGuidance.same
    temperature: Annotated[float, SCALE] = 4.5
    """Scale of the Gumbel noise on the logits in the first step; it falls linearly..."""
    final_temperature: Annotated[float, SCALE] = 0.0
    """...to this in the last one. # not in paper: 0 is 1d-tokenizer's and the release's."""
    confidence_temperature: Annotated[float | None, SCALE] = None
    """Scale of the noise on the confidence, falling to 0; None: the same as `temperature`."""
    num_diffusion_steps: Annotated[int, STEPS] = 20
    """Steps of the residual's chain."""
    solver: Solver = Solver.ddpm
    head_temperature: Annotated[float, SCALE] = 1.0
    """Factor of the noise in each step of `Solver.ddpm` (MAR)."""
    order: Order = Order.confidence
    stage_steps: Annotated[list[int] | None, Length(0, 64), Range(0, 4096)] = None
    """`Order.gtr`: steps of each stage, as many numbers as stages, `num_steps` in all. None: three
    stages, the last in one step, each of the others in about twice the steps of the next."""
    stage_order: Order = Order.random
    """`Order.gtr`: the order inside a stage. # not in paper: GtR's is random."""
    schedule: Schedule = Schedule.arccos
    """# not in paper: 1d-tokenizer's and the release's. With `Order.gtr`, of each stage."""
    logit_annealing: bool = False
    """Divide the logits by 0.5 + 0.8 (1 - r) (the release)."""
    extra_pass: bool = False
    """Condition the residual on one more pass, which sees all indices. # not in paper: the release
    has none, so what the last step reveals has a condition that does not know it."""
    fts: Selector | None = None
    """GtR's frequency-weighted selection: the positions that score highest take
    `num_diffusion_steps`, the others `fts_steps`. None: all take the same."""
    fts_share: Annotated[float, SHARE] = 0.1
    """Share of an image's positions that takes the long schedule."""
    fts_steps: Annotated[int, STEPS] = 8
    """# not in paper: GtR has 50 and 20; 20 and 8 is the same ratio from the paper's 20."""

    def __post_init__(self) -> None:
        """Refuse numbers that no sampler can honor."""
        check_ranges(self)
        if self.num_diffusion_steps > MAX_STEPS[self.solver]:
            raise UsageError(
                f"num_diffusion_steps is {self.num_diffusion_steps}; solver {self.solver.value} "
                f"takes at most {MAX_STEPS[self.solver]}"
            )
        edges = (self.interval_low, self.interval_high)
        if not all(isinstance(e, Real) for e in edges) or not 0 <= edges[0] <= edges[1] <= 1:
            raise UsageError(
                f"guidance interval {self.interval_low} to {self.interval_high} is not within 0..1"
            )
        if self.head_temperature != 1 and not self.solver.adds_noise:
            raise UsageError(
                f"head_temperature is {self.head_temperature}, but {self.solver.value} adds no "
                "noise; use solver ddpm"
            )
        self._check_stages()
        self._check_fts()

    def _check_stages(self) -> None:
        if self.stage_order is Order.gtr:
            raise UsageError("stage_order gtr is not an order inside a stage; use confidence")
        if self.stage_steps is None or self.order is not Order.gtr:
            return
        if min(self.stage_steps, default=0) < 1 or sum(self.stage_steps) != self.num_steps:
            raise UsageError(
                f"stage_steps {list(self.stage_steps)} are not {self.num_steps} steps (num_steps), "
                "at least one a stage"
            )

    def _check_fts(self) -> None:
        if self.fts is not None and self.fts_steps > self.num_diffusion_steps:
            raise UsageError(
                f"fts_steps {self.fts_steps} is more than num_diffusion_steps "
                f"{self.num_diffusion_steps}, the long schedule"
            )


def _all_of(config: SamplingConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config)}


_GTR = {"order": Order.gtr, "stage_steps": None, "schedule": Schedule.linear}
SAMPLING_PRESETS: dict[str, dict[str, Any]] = {
    # Appendix A.2: all settings.
    "paper": _all_of(SamplingConfig()),
    # What the published inference code does with `mit-han-lab/dc-ar-512`: all settings.
    "release": _all_of(
        SamplingConfig(
            temperature=1.5,
            logit_annealing=True,
            num_diffusion_steps=32,
            head_guidance=HeadGuidance.release,
        )
    ),
    # Fewer steps: guidance, temperature and the head stay the checkpoint's, chosen for it.
    "halton-12": {"num_steps": 12, "order": Order.halton},
    "halton-6": {"num_steps": 6, "order": Order.halton},
    "gtr-8": {"num_steps": 8, **_GTR},
    "gtr-6": {"num_steps": 6, **_GTR},
}
"""The settings that a preset gives; the rest stays as it was."""


def with_preset(sampling: SamplingConfig, name: str) -> SamplingConfig:
    """These settings with those of a preset in their place.

    Raises:
        UsageError: there is no such preset.
    """
    if not isinstance(name, str) or name not in SAMPLING_PRESETS:
        raise UsageError(f"preset {name!r} is not known; use {', '.join(SAMPLING_PRESETS)}")
    return replace(sampling, **SAMPLING_PRESETS[name])

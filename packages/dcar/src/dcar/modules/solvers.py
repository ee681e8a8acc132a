"""From noise to a sample of the diffusion: ancestral DDPM, DDIM, DPM-Solver++.

One evaluation of the network a timestep, whatever the solver. Rows may differ in how many timesteps
they take (FTS): each group of rows walks its own, and where these coincide the network sees the
groups as one batch. No network is here. Shapes: p rows, c channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, assert_never

import torch
from einops import rearrange
from torch import Tensor

from dcar.config import MAX_STEPS, Solver
from dcar.modules.diffusion import GaussianDiffusion, cosine_alphas, respaced_timesteps

FIRST, LAST = 20, 970
"""The timesteps between which DDIM and DPM-Solver++ ask. At 999 the signal is 5e-5 of the noise: a
network that predicts the noise knows nothing about the target there, and a solver without noise
never forgets what it said. DiSA (arXiv 2505.20297) clamps at 950 and 980. Below 20 nothing is left
to remove. Both were measured on a head before release 0.1.0's (docs/sampling.md)."""

Network = Callable[[Tensor, int, "Rows"], Tensor]
"""x (p, c) of some rows, a training timestep, and which rows these are, to (p, 2c)."""
Rows = slice | Tensor
"""All rows, or the numbers of some."""


class Group(NamedTuple):
    """Rows that take the same timesteps."""

    rows: Rows
    timesteps: Tensor
    """(steps,) int64, ascending."""


def solver_timesteps(solver: Solver, num_steps: int) -> Tensor:
    """The training timesteps (num_steps,) at which a solver asks the network, ascending.

    DDPM's are the respaced chain's. The others' are even in the logarithm of signal to noise, as in
    eMIGM, and one step asks at the last of them.

    Raises:
        ValueError: fewer steps than 1, or more than `MAX_STEPS` of the solver.
    """
    if not 1 <= num_steps <= MAX_STEPS[solver]:
        raise ValueError(f"{num_steps} steps of {solver.value} are not in 1..{MAX_STEPS[solver]}")
    match solver:
        case Solver.ddpm:
            return respaced_timesteps(num_steps)
        case Solver.ddim | Solver.dpmpp:
            signal = cosine_alphas()
            log_snr = (signal / (1 - signal)).log()
            wanted = torch.linspace(float(log_snr[LAST]), float(log_snr[FIRST]), num_steps)
            return (log_snr - rearrange(wanted, "s -> s 1")).abs().argmin(dim=1).flip(0)
        case _:
            assert_never(solver)


def solve(
    network: Network,
    start: Tensor,
    noise: Tensor,
    *,
    groups: Sequence[Group],
    solver: Solver = Solver.ddpm,
    clip: float | None = None,
    temperature: float = 1.0,
    on_step: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Sample.

    Args:
        network: what it is asked is in `Network`.
        start: (p, c) standard normal.
        noise: (steps, p, c) standard normal, in sampling order, for `Solver.ddpm`; the last of a
            walk is not used.
        groups: every row in one of them.
        solver: how a step is taken.
        clip: bound on the denoised x0 of each step.
        temperature: factor of the noise in each step.
        on_step: called with x and the denoised x0 of the rows that took a step.

    Returns:
        (p, c).
    """
    walks = [
        _Walk(start, noise, group, solver=solver, clip=clip, temperature=temperature)
        for group in groups
    ]
    timesteps = sorted({t for group in groups for t in group.timesteps.tolist()}, reverse=True)
    for timestep in timesteps:
        moving = [walk for walk in walks if walk.timestep == timestep]
        together = len(moving) > 1
        rows = torch.cat([walk.rows for walk in moving]) if together else moving[0].rows  # type: ignore[arg-type]
        x = torch.cat([walk.x for walk in moving]) if together else moving[0].x
        outputs = network(x, timestep, rows).split([len(walk.x) for walk in moving])
        x0 = [walk.advance(output) for walk, output in zip(moving, outputs, strict=True)]
        if on_step is not None:
            on_step(torch.cat([walk.x for walk in moving]), torch.cat(x0))
    sample = torch.empty_like(start)
    for walk in walks:
        sample[walk.rows] = walk.x
    return sample


class _Walk:
    """The rows of a group on their way down its timesteps."""

    def __init__(
        self,
        start: Tensor,
        noise: Tensor,
        group: Group,
        *,
        solver: Solver,
        clip: float | None,
        temperature: float,
    ) -> None:
        self.rows = group.rows
        self.x = start[group.rows]
        self.solver = solver
        self.clip = clip
        self.temperature = temperature
        self._noise = noise
        self._chain = GaussianDiffusion(group.timesteps)
        self._step = len(group.timesteps) - 1
        self._previous: Tensor | None = None

    @property
    def timestep(self) -> int | None:
        """Where the network is to be asked next; None at the end."""
        return int(self._chain.timesteps[self._step]) if self._step >= 0 else None

    def advance(self, output: Tensor) -> Tensor:
        """Take a step with the network's output (p, 2c); returns the denoised x0."""
        epsilon, v = output.chunk(2, dim=1)
        x0 = self._chain.denoised(epsilon, self.x, self._step)
        if self.clip is not None:
            x0 = x0.clamp(-self.clip, self.clip)
        match self.solver:
            case Solver.ddpm:
                self.x = self._ancestral(x0, v)
            case Solver.ddim:
                self.x = self._towards(x0)
            case Solver.dpmpp:
                self.x = self._towards(self._extrapolated(x0))
            case _:
                assert_never(self.solver)
        self._step, self._previous = self._step - 1, x0
        return x0

    def _ancestral(self, x0: Tensor, v: Tensor) -> Tensor:
        """DDPM: the posterior's mean, and noise of the learned variance."""
        mean = self._chain.posterior_mean(x0, self.x, self._step)
        if self._step == 0:
            return mean
        number = len(self._chain.timesteps) - 1 - self._step
        scale = self.temperature * (0.5 * self._chain.log_variance(v, self._step)).exp()
        return mean + scale * self._noise[number, self.rows]

    def _towards(self, x0: Tensor) -> Tensor:
        """DDIM, which is the first-order DPM-Solver++: keep the noise that x holds besides x0."""
        if self._step == 0:
            return x0
        signal, noise = self._levels(self._step)
        next_signal, next_noise = self._levels(self._step - 1)
        return next_noise / noise * (self.x - signal * x0) + next_signal * x0

    def _extrapolated(self, x0: Tensor) -> Tensor:
        """DPM-Solver++(2M): x0 half a step ahead, along the line from the step before."""
        if self._previous is None or self._step == 0:
            return x0
        before, now, after = (self._half_log_snr(self._step + k) for k in (1, 0, -1))
        ahead = (after - now) / (now - before) / 2
        return (1 + ahead) * x0 - ahead * self._previous

    def _levels(self, step: int) -> tuple[float, float]:
        """How much of x is signal, and how much noise."""
        signal = float(self._chain.alphas_cumprod[step])
        return math.sqrt(signal), math.sqrt(1 - signal)

    def _half_log_snr(self, step: int) -> float:
        signal, noise = self._levels(step)
        return math.log(signal / noise)

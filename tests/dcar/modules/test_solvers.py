import math

import pytest
import torch
from torch import Tensor

from dcar.config import MAX_STEPS, Solver
from dcar.modules.diffusion import cosine_alphas, respaced_timesteps
from dcar.modules.solvers import FIRST, LAST, Group, Rows, solve, solver_timesteps

MEAN, STD = 0.7, 0.5
ALL = slice(None)


def exact_network(x: Tensor, timestep: int, rows: Rows) -> Tensor:
    """The best epsilon for data N(MEAN, STD^2), with the posterior's larger variance (v = 1)."""
    signal = float(cosine_alphas()[timestep])
    variance = signal * STD**2 + 1 - signal
    epsilon = math.sqrt(1 - signal) * (x - math.sqrt(signal) * MEAN) / variance
    return torch.cat([epsilon, torch.ones_like(epsilon)], dim=1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(solver: Solver, steps: int, start: Tensor) -> Tensor:
    timesteps = solver_timesteps(solver, steps)
    return solve(
        exact_network, start, start.new_zeros(0, *start.shape),
        groups=[Group(ALL, timesteps)], solver=solver,
    )  # fmt: skip


@pytest.mark.parametrize(("steps", "tolerance"), [(500, 0.02), (100, 0.05)])
def test_ancestral_steps_with_the_exact_denoiser_recover_a_gaussian(
    steps: int, tolerance: float
) -> None:
    rows = 4000
    sample = solve(
        exact_network, normal(rows, 1), normal(steps, rows, 1, seed=1),
        groups=[Group(ALL, respaced_timesteps(steps))],
    )  # fmt: skip
    assert abs(sample.mean() - MEAN) < 2 * tolerance
    assert abs(sample.std() - STD) < 2 * tolerance


def true_solution(start: Tensor) -> Tensor:
    """Where the probability-flow equation takes `start`: a Gaussian keeps its quantiles."""

    def moments(timestep: int) -> tuple[float, float]:
        signal = float(cosine_alphas()[timestep])
        return math.sqrt(signal) * MEAN, math.sqrt(signal * STD**2 + 1 - signal)

    (mean, std), (end_mean, end_std) = moments(LAST), moments(FIRST)
    x = end_mean + end_std * (start - mean) / std
    # The last step is the denoised x at the first timestep.
    signal = float(cosine_alphas()[FIRST])
    epsilon = math.sqrt(1 - signal) * (x - end_mean) / end_std**2
    return (x - math.sqrt(1 - signal) * epsilon) / math.sqrt(signal)


def test_solvers_without_noise_converge_to_the_true_solution_at_their_order() -> None:
    start = normal(500, 1)
    errors = {
        (solver, steps): float((run(solver, steps, start) - true_solution(start)).abs().max())
        for solver in (Solver.ddim, Solver.dpmpp)
        for steps in (8, 16, 32)
    }
    # First order halves the error with twice the steps, second order quarters it.
    assert 1.6 < errors[Solver.ddim, 16] / errors[Solver.ddim, 32] < 2.5
    assert 3.2 < errors[Solver.dpmpp, 16] / errors[Solver.dpmpp, 32] < 6
    assert errors[Solver.dpmpp, 8] < errors[Solver.ddim, 8] / 2
    assert errors[Solver.dpmpp, 32] < 0.005


def test_one_step_is_the_denoised_start() -> None:
    start = normal(5, 1)
    signal = float(cosine_alphas()[LAST])
    epsilon = exact_network(start, LAST, ALL)[:, :1]
    x0 = (start - math.sqrt(1 - signal) * epsilon) / math.sqrt(signal)
    for solver in (Solver.ddim, Solver.dpmpp):
        torch.testing.assert_close(run(solver, 1, start), x0)


def test_temperature_scales_the_noise_of_every_step() -> None:
    start, noise = normal(3, 1), normal(4, 3, 1, seed=1)
    groups = [Group(ALL, respaced_timesteps(4))]

    def sample(temperature: float, noise: Tensor) -> Tensor:
        return solve(exact_network, start, noise, groups=groups, temperature=temperature)

    torch.testing.assert_close(sample(0.5, noise), sample(1.0, 0.5 * noise))
    assert torch.equal(sample(0.0, noise), sample(1.0, torch.zeros_like(noise)))
    assert not torch.allclose(sample(0.5, noise), sample(1.0, noise))


@pytest.mark.parametrize("solver", Solver)
def test_clipping_bounds_what_is_denoised(solver: Solver) -> None:
    seen: list[Tensor] = []
    solve(
        lambda x, timestep, rows: torch.zeros(len(x), 2),
        torch.ones(2, 1),
        torch.zeros(4, 2, 1),
        groups=[Group(ALL, solver_timesteps(solver, 4))],
        solver=solver,
        clip=0.5,
        on_step=lambda x, x0: seen.append(x0),
    )
    assert len(seen) == 4
    assert max(float(x0.abs().max()) for x0 in seen) == 0.5


@pytest.mark.parametrize("solver", Solver)
def test_every_solver_takes_as_many_steps_as_it_allows(solver: Solver) -> None:
    for steps in (1, 2, 8, 20, MAX_STEPS[solver]):
        timesteps = solver_timesteps(solver, steps)
        assert len(timesteps) == steps and (timesteps.diff() > 0).all()
    for steps in (0, MAX_STEPS[solver] + 1):
        with pytest.raises(ValueError, match=f"{steps} steps of {solver.value} are not in 1.."):
            solver_timesteps(solver, steps)


@pytest.mark.parametrize("solver", Solver)
def test_groups_walk_as_if_alone_and_share_the_network(solver: Solver) -> None:
    start, noise = normal(6, 1), normal(20, 6, 1, seed=1)
    long = solver_timesteps(solver, 20)
    short = solver_timesteps(solver, 8)
    asked: list[tuple[int, int]] = []

    def network(x: Tensor, timestep: int, rows: Rows) -> Tensor:
        asked.append((timestep, len(x)))
        return exact_network(x, timestep, rows)

    rows = torch.tensor([4, 1]), torch.tensor([0, 2, 3, 5])
    together = solve(
        network, start, noise,
        groups=[Group(rows[0], long), Group(rows[1], short)], solver=solver,
    )  # fmt: skip
    for part, timesteps in zip(rows, (long, short), strict=True):
        alone = solve(
            exact_network, start[part], noise[:, part],
            groups=[Group(ALL, timesteps)], solver=solver,
        )  # fmt: skip
        assert torch.equal(together[part], alone)
    walks = [
        (set(times.tolist()), len(part)) for part, times in zip(rows, (long, short), strict=True)
    ]
    every = sorted(walks[0][0] | walks[1][0], reverse=True)
    assert walks[0][0] & walks[1][0]  # both ends at least
    assert asked == [(t, sum(count for times, count in walks if t in times)) for t in every]

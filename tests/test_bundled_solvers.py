"""The head's solvers on the bundled checkpoint: how far 8 steps of DPM-Solver++ are from 20."""

import pytest
import torch
from torch import Tensor

from dcar.config import SamplingConfig, Solver
from dcar.modules.diffusion_head import DiffusionHead
from dcar.randomness import keyed_generator
from dcar.sampler import sample_indices, sample_residual
from dcar.weights.pretrained import load_pretrained

PROMPTS = ["a photo of a red apple", "a photo of a dog and a car"]


@pytest.fixture(scope="module")
def conditions() -> tuple[DiffusionHead, Tensor, SamplingConfig]:
    """The bundled head, with the hidden states of two images as its conditions."""
    found = load_pretrained()
    assert found.model.head is not None
    config = found.config.sampling
    with torch.no_grad():
        ids, mask = found.text.tokenize(PROMPTS)
        drawn = sample_indices(
            found.model.generator, found.text(ids, mask), mask, grid=(8, 8), config=config,
            generators=[keyed_generator(0, number) for number in range(2)],
        )  # fmt: skip
    return found.model.head, drawn.hidden, config


@torch.no_grad()
def test_eight_steps_of_dpm_solver_are_close_to_twenty(
    conditions: tuple[DiffusionHead, Tensor, SamplingConfig],
) -> None:
    head, hidden, config = conditions

    def residual(solver: Solver, steps: int, seed: int = 0) -> Tensor:
        settings = SamplingConfig(
            cfg_scale=config.cfg_scale, solver=solver, num_diffusion_steps=steps
        )
        sources = [keyed_generator(seed, number) for number in range(2)]
        return sample_residual(head, hidden, config=settings, generators=sources)

    def rms(x: Tensor) -> float:
        return float(x.square().mean().sqrt())

    twenty = residual(Solver.dpmpp, 20)
    distance = {
        solver: rms(residual(solver, 8) - twenty) / rms(twenty)
        for solver in (Solver.ddim, Solver.dpmpp)
    }
    # The distance that docs/sampling.md states.
    assert distance[Solver.dpmpp] < 0.08
    assert distance[Solver.ddim] > 2 * distance[Solver.dpmpp]
    # Another noise in each step: no distance to a sample, but the same spread of samples.
    ddpm = torch.cat([residual(Solver.ddpm, 20, seed) for seed in (1, 2)])
    assert 0.9 < rms(residual(Solver.dpmpp, 8)) / rms(ddpm) < 1.15


@torch.no_grad()
def test_a_head_temperature_of_0_draws_the_conditional_mean(
    conditions: tuple[DiffusionHead, Tensor, SamplingConfig],
) -> None:
    """Twenty steps for what one would give: whatever the noise it starts from, nearly the same."""
    head, hidden, config = conditions

    def residuals(temperature: float) -> Tensor:
        settings = SamplingConfig(cfg_scale=config.cfg_scale, head_temperature=temperature)
        drawn = [
            sample_residual(
                head, hidden, config=settings,
                generators=[keyed_generator(seed, number) for number in range(2)],
            )
            for seed in range(8)
        ]  # fmt: skip
        return torch.stack(drawn)

    def rms(x: Tensor) -> float:
        return float(x.square().mean().sqrt())

    cold, warm = residuals(0.0), residuals(1.0)
    spread = rms(warm - warm.mean(0))
    assert rms(cold - cold.mean(0)) < 0.1 * spread
    # The mean of eight draws is itself off by their spread over the root of eight.
    assert rms(cold.mean(0) - warm.mean(0)) < 0.6 * spread
    assert rms(cold) < rms(warm)

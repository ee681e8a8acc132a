"""`sample_residual`: guidance, solvers and noise of the residual head in the sampler."""

from dataclasses import replace

import pytest
import torch

from dcar import DCAR, SamplingConfig, sample_residual
from dcar.config import HeadGuidance, Selector, Solver
from dcar.modules.diffusion_head import HeadNoise
from dcar.randomness import keyed_generator

CONFIG = SamplingConfig(num_diffusion_steps=3, cfg_scale=1.5)


def generators(count: int) -> list[torch.Generator]:
    return [keyed_generator(0, number) for number in range(count)]


@torch.no_grad()
def test_a_head_without_guidance_takes_the_conditional_rows(model: DCAR) -> None:
    assert model.head is not None
    hidden = torch.randn(4, 6, 32, generator=torch.Generator().manual_seed(0))
    off = replace(CONFIG, head_guidance=HeadGuidance.off)
    unguided = replace(CONFIG, cfg_scale=0.0)
    found = sample_residual(model.head, hidden, config=off, generators=generators(2))
    expected = sample_residual(model.head, hidden[:2], config=unguided, generators=generators(2))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("solver", Solver)
@torch.no_grad()
def test_residual_of_image_k_is_the_same_in_any_batch(model: DCAR, solver: Solver) -> None:
    assert model.head is not None
    hidden = torch.randn(6, 5, 32, generator=torch.Generator().manual_seed(0))
    config = replace(CONFIG, solver=solver, fts=Selector.frequency, fts_share=0.4, fts_steps=2)
    together = sample_residual(model.head, hidden, config=config, generators=generators(3))
    for k in range(3):
        alone = sample_residual(
            model.head, hidden[[k, k + 3]], config=config, generators=[generators(3)[k]]
        )
        torch.testing.assert_close(alone, together[k : k + 1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_residual_of_recorded_noise(model: DCAR) -> None:
    assert model.head is not None
    hidden = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
    sources = generators(1)
    noise = HeadNoise(
        torch.randn(1, 4, 8, generator=sources[0]),
        torch.randn(3, 4, 8, generator=sources[0]).unsqueeze(1),
    )
    drawn = sample_residual(model.head, hidden, config=CONFIG, generators=generators(1))
    replayed = sample_residual(model.head, hidden, config=CONFIG, noise=noise)
    assert torch.equal(drawn, replayed)

from dataclasses import replace

import pytest
import torch

from dcar import PRESETS, DiffusionHead
from dcar.model import DCAR
from dcar.modules.diffusion_head import HeadNoise

TINY = PRESETS["tiny"].head


@pytest.fixture
def head(model: DCAR) -> DiffusionHead:
    assert model.head is not None
    return model.head


def condition(rows: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(rows, 5, TINY.condition_dim, generator=generator)


def noise(images: int, steps: int) -> HeadNoise:
    generator = torch.Generator().manual_seed(4)
    return HeadNoise(
        torch.randn(images, 5, TINY.latent_channels, generator=generator),
        torch.randn(steps, images, 5, TINY.latent_channels, generator=generator),
    )


def test_a_fresh_head_predicts_zero() -> None:
    fresh = DiffusionHead(TINY)
    out = fresh(torch.randn(4, 8), torch.tensor([0, 1, 500, 999]), torch.randn(4, 32))
    assert torch.equal(out, torch.zeros(4, 16))


@torch.no_grad()
def test_target_is_divided_by_its_standard_deviation(head: DiffusionHead) -> None:
    target = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    t, draws = torch.full((10,), 300), torch.zeros(10, 8)
    plain = DiffusionHead(replace(TINY, residual_std=1.0))
    scaled = DiffusionHead(replace(TINY, residual_std=0.1))
    for other in (plain, scaled):
        other.load_state_dict(head.state_dict())
    loss = plain.loss(target, condition(), t=t, noise=draws)
    assert torch.allclose(scaled.loss(target * 0.1, condition(), t=t, noise=draws), loss)


@torch.no_grad()
def test_copies_are_tiled_copy_after_copy(head: DiffusionHead) -> None:
    target = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    several = DiffusionHead(replace(TINY, batch_mul=3))
    several.load_state_dict(head.state_dict())
    generator = torch.Generator().manual_seed(1)
    t = torch.randint(1000, (30,), generator=generator)
    draws = torch.randn(30, 8, generator=generator)
    whole = several.loss(target, condition(), t=t, noise=draws)
    copies = [
        head.loss(target, condition(), t=t[i : i + 10], noise=draws[i : i + 10])
        for i in (0, 10, 20)
    ]
    assert torch.allclose(whole, torch.stack(copies).mean())


@torch.no_grad()
def test_loss_draws_from_its_generator(head: DiffusionHead) -> None:
    target = torch.ones(2, 5, 8)
    losses = [
        head.loss(target, condition(), generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


@torch.no_grad()
def test_guidance_between_equal_conditions_changes_nothing(head: DiffusionHead) -> None:
    same = torch.cat([condition(), condition()])
    plain = head.sample(condition(), 4, 0.0, noise=noise(2, 4))
    guided = head.sample(same, 4, 4.5, noise=noise(2, 4))
    assert plain.shape == (2, 5, 8)
    assert torch.allclose(guided, plain, atol=1e-5)


@torch.no_grad()
def test_guidance_follows_its_formula(head: DiffusionHead) -> None:
    # One step without noise is one evaluation: x0 of the guided epsilon.
    both = torch.cat([condition(), condition() * -1])
    start = HeadNoise(noise(2, 1).start, torch.zeros(1, 2, 5, 8))
    unclipped = DiffusionHead(replace(TINY, clip=None))
    unclipped.load_state_dict(head.state_dict())
    at = {s: unclipped.sample(both[:2] if s == 0 else both, 1, s, noise=start) for s in (0, 1, 3)}
    assert torch.allclose(at[3] - at[0], 3 * (at[1] - at[0]), rtol=1e-3, atol=1e-2)


def test_guidance_needs_both_halves(head: DiffusionHead) -> None:
    with pytest.raises(ValueError, match="conditional then unconditional rows; got 3"):
        head.sample(condition(3), 4, 4.5)


@torch.no_grad()
def test_sampling_clips_and_scales(head: DiffusionHead) -> None:
    clipped = DiffusionHead(replace(TINY, clip=0.5, residual_std=0.2))
    clipped.load_state_dict(head.state_dict())
    sample = clipped.sample(condition(), 1, generator=torch.Generator().manual_seed(0))
    assert sample.abs().max() <= 0.5 * 0.2 + 1e-6
    assert sample.abs().max() > 0

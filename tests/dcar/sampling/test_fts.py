import cmath
from typing import Any

import pytest
import torch

from dcar import DiffusionHead, SamplingConfig, sample_residual
from dcar.config import Selector, Solver
from dcar.model import DCAR
from dcar.modules.diffusion_head import Budget
from dcar.randomness import keyed_generator
from dcar.sampling.fts import entropy_scores, frequency_scores, select


@pytest.fixture
def head(model: DCAR) -> DiffusionHead:
    assert model.head is not None
    return model.head


def condition(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def test_frequency_scores_are_the_weighted_spectrum() -> None:
    z = condition(1, 2, 12).double()
    for position in range(2):
        values = z[0, position].tolist()
        spectrum = [
            abs(sum(v * cmath.exp(-2j * cmath.pi * n * c / 12) for c, v in enumerate(values)))
            for n in range(7)
        ]
        expected = sum(spectrum[n] * (1 + n / 6) for n in range(1, 7))
        assert abs(float(frequency_scores(z)[0, position]) - expected) < 1e-4


def test_a_constant_scores_nothing_and_a_fast_wave_more_than_a_slow_one() -> None:
    channels = torch.arange(16)
    waves = torch.stack([torch.cos(2 * torch.pi * n * channels / 16) for n in (0, 1, 4)])
    flat, slow, fast = frequency_scores(waves[None])[0].tolist()
    assert flat < 1e-4
    # One line of magnitude d/2 each: 8 (1 + n / 8).
    assert abs(slow - 9) < 1e-4 and abs(fast - 12) < 1e-4


def test_entropy_in_nats() -> None:
    scores = entropy_scores(torch.tensor([[[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]]]))
    torch.testing.assert_close(scores, torch.tensor([[4.0, 1.0]]).log())


@pytest.mark.parametrize(("positions", "expected"), [(64, 6), (256, 26), (128, 13), (4, 0)])
def test_a_tenth_of_each_image(positions: int, expected: int) -> None:
    z = condition(3, positions, 8)
    chosen = select(Selector.norm, z, share=0.1, variates=z[..., 0])
    assert chosen.sum(dim=1).tolist() == [expected] * 3
    lengths = z.norm(dim=-1)
    for image in range(3):
        if expected:
            assert lengths[image, chosen[image]].min() >= lengths[image, ~chosen[image]].max()


def test_ties_give_the_planned_number() -> None:
    same = torch.ones(2, 10, 4)
    for selector in (Selector.frequency, Selector.norm, Selector.entropy):
        chosen = select(selector, same, share=0.3, variates=same[..., 0], to_logits=lambda z: z)
        assert chosen.sum(dim=1).tolist() == [3, 3]


def test_selectors_look_at_different_things() -> None:
    z = condition(1, 50, 16)
    variates = torch.rand(1, 50, generator=torch.Generator().manual_seed(0))
    chosen = {
        selector: select(selector, z, share=0.2, variates=variates, to_logits=lambda z: 3 * z)
        for selector in Selector
    }
    assert torch.equal(chosen[Selector.random], variates >= variates.sort().values[0, 40])
    assert len({tuple(mask[0].tolist()) for mask in chosen.values()}) == len(Selector)
    with pytest.raises(ValueError, match="entropy needs to_logits"):
        select(Selector.entropy, z, share=0.2, variates=variates)


def refine(head: DiffusionHead, hidden: torch.Tensor, **settings: Any) -> torch.Tensor:
    sources = [keyed_generator(0, number) for number in range(2)]
    config = SamplingConfig(cfg_scale=1.5, **settings)
    return sample_residual(head, hidden, config=config, generators=sources, to_logits=lambda z: z)


@pytest.mark.parametrize("solver", Solver)
@pytest.mark.parametrize("selector", Selector)
@torch.no_grad()
def test_equal_budgets_are_the_plain_path_bit_for_bit(
    head: DiffusionHead, selector: Selector, solver: Solver
) -> None:
    hidden = condition(4, 10, 32)
    plain = refine(head, hidden, num_diffusion_steps=6, solver=solver)
    for options in ({"fts_steps": 6}, {"fts_steps": 3, "fts_share": 1.0}):
        found = refine(head, hidden, num_diffusion_steps=6, solver=solver, fts=selector, **options)
        assert torch.equal(found, plain)
    other = refine(head, hidden, num_diffusion_steps=6, solver=solver, fts=selector, fts_steps=3)
    assert not torch.equal(other, plain)


@pytest.mark.parametrize("solver", Solver)
@torch.no_grad()
def test_each_position_is_drawn_as_its_own_schedule_says(
    head: DiffusionHead, solver: Solver
) -> None:
    """Long positions equal the plain long run, short ones the plain short one."""
    hidden = condition(4, 10, 32)
    settings = {"num_diffusion_steps": 6, "solver": solver}
    mixed = refine(head, hidden, **settings, fts=Selector.frequency, fts_steps=3, fts_share=0.3)
    long = select(Selector.frequency, hidden[:2], share=0.3, variates=hidden[:2, :, 0])
    assert long.sum(dim=1).tolist() == [3, 3]
    plain = refine(head, hidden, **settings)
    torch.testing.assert_close(mixed[long], plain[long], atol=1e-5, rtol=1e-4)

    short = refine(head, hidden, **settings | {"num_diffusion_steps": 3})
    torch.testing.assert_close(mixed[~long], short[~long], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(short[~long], plain[~long], atol=1e-3)


@torch.no_grad()
def test_long_positions_alone_are_asked_about_between_the_short_steps(head: DiffusionHead) -> None:
    rows: list[int] = []
    denoise = head.denoise

    def counted(x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        rows.append(len(x))
        return denoise(x, embedding)

    head.denoise = counted  # type: ignore[method-assign]
    long = torch.zeros(2, 10, dtype=torch.bool)
    long[:, :2] = True
    head.sample(condition(2, 10, 32), 5, budget=Budget(long, 2))
    assert rows == [20, 4, 4, 4, 20]

"""What the sampler makes of each order; the plans themselves are in test_orders."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dcar import DCAR, Order, SamplingConfig
from dcar.config import Schedule
from dcar.randomness import keyed_generator
from dcar.sampler import Step, StepNoise, unmask
from dcar.sampling.orders import halton_ranks, parity_stages

MASK = 64
CONFIG = SamplingConfig(cfg_scale=1.5, temperature=2.0)


def prompts(count: int) -> tuple[Tensor, Tensor]:
    """Text and mask of prompts that do not depend on how many there are."""
    text = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(99))
    return text[:count], torch.ones(count, 8, dtype=torch.bool)


def generators(count: int) -> list[torch.Generator]:
    return [keyed_generator(0, number) for number in range(count)]


@pytest.mark.parametrize("inner", [Order.confidence, Order.random, Order.halton])
@torch.no_grad()
def test_gtr_of_one_stage_is_the_plain_order(model: DCAR, inner: Order) -> None:
    text, mask = prompts(2)
    start = torch.full((2, 3, 5), MASK)
    start[1, :2] = 3
    plain = replace(CONFIG, num_steps=4, order=inner)
    single = replace(plain, order=Order.gtr, stage_steps=[4], stage_order=inner)
    for a, b in zip(
        *(
            unmask(
                model.generator, text, mask, grid=(3, 5), config=config,
                generators=generators(2), start=start,
            )
            for config in (plain, single)
        ),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.hidden, b.hidden) and torch.equal(a.logits, b.logits)


@pytest.mark.parametrize("inner", [Order.confidence, Order.random])
@torch.no_grad()
def test_gtr_reveals_stage_after_stage_in_unequal_masks(model: DCAR, inner: Order) -> None:
    text, mask = prompts(3)
    config = replace(
        CONFIG, num_steps=7, order=Order.gtr, stage_order=inner, schedule=Schedule.linear
    )
    stages = parity_stages(6, 4, 3).unflatten(1, (6, 4))
    start = torch.full((3, 6, 4), MASK)
    start[0, :3], start[1] = 5, 6  # the second image has nothing to draw at all

    def draw(images: slice) -> list[Step]:
        return list(
            unmask(
                model.generator, text[images], mask[images], grid=(6, 4), config=config,
                generators=generators(3)[images], start=start[images],
            )
        )  # fmt: skip

    together, before = draw(slice(0, 3)), start
    for step, stage in zip(together, (0, 0, 0, 0, 1, 1, 2), strict=True):
        revealed = step.indices != before
        assert not (revealed & ~stages[stage]).any()
        before = step.indices
    for last, stage in ((3, 0), (5, 1), (6, 2)):
        assert not ((together[last].indices == MASK) & stages[stage]).any()
    for k in range(3):
        assert torch.equal(draw(slice(k, k + 1))[-1].indices, before[k : k + 1])


@torch.no_grad()
def test_halton_reveals_along_its_sequence(model: DCAR) -> None:
    config = replace(CONFIG, num_steps=4, order=Order.halton)
    text, mask = prompts(1)
    draws = [
        StepNoise(torch.rand(1, 12, 64, generator=source), torch.full((1, 12), start))
        for source, start in zip(generators(4), (0.25, 0.9, 0.1, 0.6), strict=True)
    ]
    ranks = (halton_ranks(3, 4) - 3) % 12  # a quarter of 12: the first step's draw counts
    for step in unmask(model.generator, text, mask, grid=(3, 4), config=config, noise=draws):
        known = (step.indices != MASK).flatten()
        assert torch.equal(known, ranks < known.sum())


@torch.no_grad()
def test_random_order_does_not_look_at_confidence(model: DCAR) -> None:
    """The positions that random order keeps follow its draws alone."""
    text, mask = prompts(1)
    order = torch.tensor([[0.9, 0.1, 0.8, 0.2]])
    noise = [StepNoise(torch.rand(1, 4, 64), order) for _ in range(2)]
    config = replace(CONFIG, num_steps=2, order=Order.random)
    step = next(unmask(model.generator, text, mask, grid=(2, 2), config=config, noise=noise))
    hidden = (step.indices.flatten() == MASK).tolist()
    assert hidden == [False, True, False, True]

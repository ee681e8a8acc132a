from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dcar import DCAR, Order, SamplingConfig, sample_indices, sample_residual
from dcar.config import Guidance, Schedule
from dcar.modules.transformer import Generator, TextContext
from dcar.randomness import keyed_generator
from dcar.sampler import Step, StepNoise, unmask
from dcar.sampling.guidance import step_scale

MASK = 64
CONFIG = SamplingConfig(num_steps=3, num_diffusion_steps=3, cfg_scale=1.5, temperature=2.0)


def prompts(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Text and mask of prompts that do not depend on how many there are."""
    text = torch.stack(
        [torch.randn(8, 16, generator=keyed_generator(99, number)) for number in range(count)]
    )
    return text, torch.ones(count, 8, dtype=torch.bool)


def generators(count: int) -> list[torch.Generator]:
    return [keyed_generator(0, number) for number in range(count)]


def count_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which every pass of a transformer adds its number of rows."""
    rows: list[int] = []
    encode = Generator.encode

    def counted(self: Generator, indices: Tensor, context: TextContext) -> Tensor:
        rows.append(len(indices))
        return encode(self, indices, context)

    monkeypatch.setattr(Generator, "encode", counted)
    return rows


@pytest.fixture
def sevens(model: DCAR) -> Generator:
    """A generator that always votes 7."""
    with torch.no_grad():
        model.generator.to_logits.weight.zero_()
        model.generator.to_logits.bias.zero_()
        model.generator.to_logits.bias[7] = 1000.0
    return model.generator


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("cfg_scale", [0.0, 4.5])
@pytest.mark.parametrize("steps", [1, 2, 12])
@torch.no_grad()
def test_a_generator_that_always_votes_7_gives_7s(
    sevens: Generator, steps: int, cfg_scale: float, order: Order
) -> None:
    config = SamplingConfig(num_steps=steps, cfg_scale=cfg_scale, order=order)
    result = sample_indices(
        sevens, *prompts(2), grid=(3, 4), config=config, generators=generators(2)
    )
    assert torch.equal(result.indices, torch.full((2, 3, 4), 7))


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("steps", [1, 2, 12, 30])
@torch.no_grad()
def test_no_mask_id_survives(model: DCAR, steps: int, order: Order) -> None:
    config = replace(CONFIG, num_steps=steps, order=order)
    result = sample_indices(
        model.generator, *prompts(2), grid=(4, 4), config=config, generators=generators(2)
    )
    assert result.indices.min() >= 0 and result.indices.max() < MASK
    assert result.hidden.shape == (4, 16, 32)


@torch.no_grad()
def test_ties_reveal_exactly_the_planned_number(sevens: Generator) -> None:
    # Without noise, all confidences are the same.
    config = SamplingConfig(temperature=0.0, cfg_scale=0.0)
    steps = unmask(sevens, *prompts(1), grid=(8, 8), config=config, generators=generators(1))
    left = [64, *(int((step.indices == MASK).sum()) for step in steps)]
    revealed = [a - b for a, b in pairwise(left)]
    assert revealed == [4, 3, 4, 3, 4, 4, 4, 4, 5, 6, 7, 16]


@torch.no_grad()
def test_what_is_known_is_never_drawn_again(model: DCAR) -> None:
    before = torch.full((2, 4, 4), MASK)
    for step in unmask(
        model.generator, *prompts(2), grid=(4, 4), config=CONFIG, generators=generators(2)
    ):
        known = before != MASK
        assert torch.equal(step.indices[known], before[known])
        before = step.indices


@torch.no_grad()
def test_image_k_is_the_same_in_any_batch(model: DCAR) -> None:
    assert model.head is not None
    config = replace(CONFIG, num_steps=5)
    text, mask = prompts(4)

    def draw(images: slice) -> tuple[torch.Tensor, torch.Tensor]:
        sources = generators(4)[images]
        result = sample_indices(
            model.generator, text[images], mask[images],
            grid=(2, 3), config=config, generators=sources,
        )  # fmt: skip
        assert model.head is not None
        residual = sample_residual(model.head, result.hidden, config=config, generators=sources)
        return result.indices, residual

    together = draw(slice(0, 4))
    assert together[1].shape == (4, 6, 8)
    for k in range(4):
        alone = draw(slice(k, k + 1))
        assert torch.equal(alone[0], together[0][k : k + 1])
        assert torch.allclose(alone[1], together[1][k : k + 1], atol=1e-5)


@torch.no_grad()
def test_without_guidance_there_is_no_unconditional_pass(
    model: DCAR, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = count_rows(monkeypatch)
    text, mask = prompts(2)
    for scale, expected in ((0.0, 2), (1.5, 4)):
        rows.clear()
        steps = list(
            unmask(
                model.generator, text, mask, grid=(2, 2),
                config=replace(CONFIG, cfg_scale=scale), generators=generators(2),
            )
        )  # fmt: skip
        assert rows == [expected] * 3
        assert steps[0].hidden.shape[0] == expected
    start = torch.full((2, 2, 2), MASK)
    conditional = model.generator(start, text, mask).logits
    unguided = next(
        unmask(
            model.generator, text, mask, grid=(2, 2),
            config=replace(CONFIG, cfg_scale=0.0), generators=generators(2),
        )
    )  # fmt: skip
    assert torch.equal(unguided.logits, conditional.flatten(0, 1))


@torch.no_grad()
def test_guidance_is_one_plus_s_conditional_minus_s_unconditional(model: DCAR) -> None:
    text, mask = prompts(1)
    start = torch.full((1, 2, 2), MASK)
    everything = torch.tensor([True])
    conditional = model.generator(start, text, mask).logits
    null = model.generator.drop_text(text, everything)
    unconditional = model.generator(start, null, mask).logits
    first = next(
        unmask(model.generator, text, mask, grid=(2, 2), config=CONFIG, generators=generators(1))
    )
    expected = 2.5 * conditional - 1.5 * unconditional
    torch.testing.assert_close(first.logits, expected[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_recorded_noise_replays_a_run(model: DCAR) -> None:
    text, mask = prompts(2)
    sources = generators(2)
    noise = [
        StepNoise(
            torch.stack([torch.rand(4, 64, generator=source) for source in sources]),
            torch.stack([torch.rand(4, generator=source) for source in sources]),
        )
        for _ in range(3)
    ]
    sampled = sample_indices(
        model.generator, text, mask, grid=(2, 2), config=CONFIG, generators=generators(2)
    )
    replayed = sample_indices(model.generator, text, mask, grid=(2, 2), config=CONFIG, noise=noise)
    assert torch.equal(sampled.indices, replayed.indices)
    assert torch.equal(sampled.hidden, replayed.hidden)


@torch.no_grad()
def test_given_indices_are_kept_and_images_may_have_different_numbers(model: DCAR) -> None:
    text, mask = prompts(3)
    start = torch.randint(64, (3, 4, 4), generator=torch.Generator().manual_seed(0))
    start[0, :1], start[1, :3] = MASK, MASK
    # The third image has nothing to draw at all.
    together = sample_indices(
        model.generator, text, mask, grid=(4, 4), config=CONFIG, generators=generators(3),
        start=start,
    ).indices  # fmt: skip
    assert torch.equal(together[start != MASK], start[start != MASK])
    assert not (together == MASK).any()
    for k in range(3):
        alone = sample_indices(
            model.generator, text[k : k + 1], mask[k : k + 1], grid=(4, 4), config=CONFIG,
            generators=[generators(3)[k]], start=start[k : k + 1],
        ).indices  # fmt: skip
        assert torch.equal(alone, together[k : k + 1])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"logit_annealing": True, "schedule": Schedule.cosine},
        {"guidance": Guidance.linear},
        {"guidance": Guidance.interval, "interval_low": 0.3, "interval_high": 0.6},
        {"order": Order.gtr},
        {"order": Order.halton, "cfg_scale": 0.0},
    ],
    ids=str,
)
@torch.no_grad()
def test_every_step_equals_the_plain_path(model: DCAR, settings: dict[str, Any]) -> None:
    """The plain path: text embedded in every step, both branches, logits everywhere."""
    config = replace(CONFIG, num_steps=5, **settings)
    text, mask = prompts(3)
    mask[1, 3:] = False
    start = torch.full((3, 4, 4), MASK)
    start[0, 1:], start[2, :, 2] = 5, 9
    noise = [
        StepNoise(torch.rand(3, 16, 64, generator=source), torch.rand(3, 16, generator=source))
        for source in generators(5)
    ]
    null = model.generator.drop_text(text, torch.ones(3, dtype=torch.bool))
    before = start
    steps = unmask(
        model.generator, text, mask, grid=(4, 4), config=config, noise=noise, start=start
    )
    for number, step in enumerate(steps):
        progress = (number + 1) / 5
        scale = step_scale(config, number)
        conditional = model.generator(before, text, mask).logits
        unconditional = model.generator(before, null, mask).logits
        logits = (1 + scale) * conditional - scale * unconditional
        if config.logit_annealing:
            logits = logits / (0.5 + 0.8 * (1 - progress))
        rows = step.candidates.flatten(1)
        tolerance = 1e-4 * max(1.0, float(logits.std()))
        torch.testing.assert_close(step.logits, logits[rows], atol=tolerance, rtol=0)
        gumbel = -(-noise[number].indices.log()).log()
        choice = (logits + config.temperature * (1 - progress) * gumbel).argmax(dim=2)
        assert torch.equal(step.sampled.flatten(1)[rows], choice[rows])
        assert torch.equal(step.sampled[~step.candidates], before[~step.candidates])
        assert bool((before[step.candidates] == MASK).all())
        before = step.indices
    assert not (before == MASK).any()


@torch.no_grad()
def test_draw_and_confidence_have_temperatures_of_their_own(model: DCAR) -> None:
    text, mask = prompts(1)

    def first(**settings: float) -> Step:
        config = replace(CONFIG, cfg_scale=0.0, num_steps=2, **settings)
        return next(
            unmask(
                model.generator, text, mask, grid=(4, 4), config=config, generators=generators(1)
            )
        )

    def kept(step: Step) -> Tensor:
        return (step.indices != MASK).flatten()

    quiet = first(temperature=0.0)
    noisy = first(temperature=50.0, confidence_temperature=0.0)
    assert torch.equal(quiet.sampled.flatten(), quiet.logits.argmax(dim=1))
    assert not torch.equal(noisy.sampled, quiet.sampled)
    # Without noise on it, the confidence is the chosen logit alone.
    for step in (quiet, noisy):
        chosen = step.logits.gather(1, step.sampled.flatten()[:, None])[:, 0]
        assert chosen[kept(step)].min() >= chosen[~kept(step)].max()
    ranked = first(temperature=0.0, confidence_temperature=50.0)
    assert torch.equal(ranked.sampled, quiet.sampled)
    assert not torch.equal(kept(ranked), kept(quiet))


@torch.no_grad()
def test_the_last_step_is_greedy_unless_told_otherwise(model: DCAR) -> None:
    text, mask = prompts(1)

    def draw(seed: int, final: float) -> Tensor:
        config = replace(CONFIG, num_steps=1, final_temperature=final)
        return sample_indices(
            model.generator, text, mask, grid=(4, 4), config=config,
            generators=[keyed_generator(seed)],
        ).indices  # fmt: skip

    assert torch.equal(draw(0, 0.0), draw(1, 0.0))
    assert not torch.equal(draw(0, 20.0), draw(1, 20.0))


@torch.no_grad()
def test_an_extra_pass_conditions_the_residual_on_all_indices(model: DCAR) -> None:
    text, mask = prompts(2)
    plain, extra = (
        sample_indices(
            model.generator, text, mask, grid=(3, 3), generators=generators(2),
            config=replace(CONFIG, cfg_scale=0.0, extra_pass=extra),
        )
        for extra in (False, True)
    )  # fmt: skip
    assert torch.equal(plain.indices, extra.indices)
    expected = model.generator(extra.indices, text, mask).hidden
    torch.testing.assert_close(extra.hidden, expected)
    assert not torch.allclose(plain.hidden, expected, atol=1e-3)


@torch.no_grad()
def test_passes_of_interval_guidance(model: DCAR, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = count_rows(monkeypatch)
    config = replace(
        CONFIG, num_steps=5, guidance=Guidance.interval, interval_low=0.3, interval_high=0.6
    )
    result = sample_indices(
        model.generator, *prompts(2), grid=(2, 3), config=config, generators=generators(2)
    )
    assert rows == [2, 2, 4, 4, 2]
    # The last step was not guided, so the head is not.
    assert model.head is not None and result.hidden.shape[0] == 2
    residual = sample_residual(model.head, result.hidden, config=config, generators=generators(2))
    assert residual.shape == (2, 6, 8)


@torch.no_grad()
def test_one_generator_is_enough(model: DCAR) -> None:
    text, mask = prompts(2)
    runs = [
        sample_indices(
            model.generator, text, mask, grid=(2, 2), config=CONFIG,
            generators=torch.Generator().manual_seed(seed),
        ).indices
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_noise_is_an_input(model: DCAR) -> None:
    assert model.head is not None
    with pytest.raises(ValueError, match="generators or recorded noise"):
        sample_indices(model.generator, *prompts(1), grid=(2, 2), config=CONFIG)
    with pytest.raises(ValueError, match="generators or recorded noise"):
        sample_residual(model.head, torch.zeros(2, 4, 32), config=CONFIG)


class Waits(TorchDispatchMode):
    """The names of operations for which the host would wait until a device has counted or told."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        chosen = args[1] if name in ("index", "index_put", "index_put_") else ()
        if name in ("nonzero", "masked_select", "_local_scalar_dense", "equal") or any(
            index is not None and index.dtype == torch.bool for index in chosen
        ):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("order", Order)
@torch.no_grad()
def test_the_loop_never_waits_for_a_device(model: DCAR, order: Order) -> None:
    """Once it runs: what each step samples was counted before the first, also for an edit."""
    text, mask = prompts(2)
    start = torch.full((2, 4, 4), MASK)
    start[0, :2] = 7
    for given in (None, start):
        loop = unmask(
            model.generator, text, mask, grid=(4, 4), config=replace(CONFIG, order=order),
            generators=generators(2), start=given,
        )  # fmt: skip
        next(loop)
        with Waits() as waits:
            assert len(list(loop)) == CONFIG.num_steps - 1
        assert waits.found == []
    with Waits() as waits:
        torch.arange(3)[torch.arange(3) > 0].max().item()
    assert waits.found == ["index", "_local_scalar_dense"]

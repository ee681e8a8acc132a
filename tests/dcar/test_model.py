import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dcar import DCAR, PRESETS
from dcar.config import LossConfig, Schedule
from dcar.model import Randomness, mask_weights

TINY = PRESETS["tiny"]
GOLDEN = [25.062225, 4.256200, 20.806025, 0.0]


def batch(size: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "indices": torch.randint(64, (size, 2, 3), generator=generator),
        "residual": torch.randn(size, 8, 2, 3, generator=generator) * 0.1,
        "text": torch.randn(size, 8, 16, generator=generator),
        "text_mask": torch.ones(size, 8, dtype=torch.bool),
    }


def test_golden_loss() -> None:
    """Fixed weights, data and draws: a refactoring may not change these numbers."""
    torch.manual_seed(0)
    model = DCAR(TINY)
    with torch.no_grad():
        model.generator.to_logits.weight.normal_(std=0.1)
    losses = model(**batch(), randomness=model.sample_randomness(0, range(4), 6), loss=LossConfig())
    torch.testing.assert_close(
        torch.stack(losses[:4]).detach(), torch.tensor(GOLDEN), rtol=1e-4, atol=1e-6
    )


@torch.no_grad()
def test_cross_entropy_is_that_of_all_logits_at_the_masked_positions(model: DCAR) -> None:
    given, randomness = batch(), model.sample_randomness(0, range(4), 6)
    kept = randomness._replace(drop=torch.zeros(4, dtype=torch.bool))
    losses = model(
        **given, randomness=kept, loss=LossConfig(label_smoothing=0.1, unmasked_weight=0.2)
    )
    flat = given["indices"].flatten(1)
    masked = flat.masked_fill(randomness.mask, 64).unflatten(1, (2, 3))
    logits = model.generator(masked, given["text"], given["text_mask"]).logits
    every = F.cross_entropy(logits.transpose(1, 2), flat, reduction="none", label_smoothing=0.1)
    weights = torch.where(randomness.mask, 1.0, 0.2)
    assert torch.allclose(losses.cross_entropy, (every * weights).sum() / weights.sum())
    hits = (logits.argmax(dim=2) == flat)[randomness.mask].float().mean()
    assert torch.allclose(losses.accuracy, hits)


@torch.no_grad()
def test_parts_of_a_batch_add_up_to_the_whole(model: DCAR) -> None:
    given, randomness, loss = (
        batch(),
        model.sample_randomness(0, range(4), 6),
        LossConfig(unmasked_weight=0.1),
    )
    whole = model(**given, randomness=randomness, loss=loss)
    weight_sum = mask_weights(randomness.mask, loss).sum()
    parts = [
        model(
            **{name: tensor[i : i + 1] for name, tensor in given.items()},
            randomness=randomness.part(i, i + 1),
            loss=loss,
            share=0.25,
            weight_sum=weight_sum,
        )
        for i in range(4)
    ]
    for name in ("total", "cross_entropy", "diffusion"):
        together = torch.stack([getattr(part, name) for part in parts]).sum()
        assert torch.allclose(together, getattr(whole, name), rtol=1e-5)


def test_draws_belong_to_samples_not_to_batches(model: DCAR) -> None:
    many, one = model.sample_randomness(7, [3, 4, 5], 6), model.sample_randomness(7, [5], 6)
    for whole, alone in zip(many.part(2, 3), one, strict=True):
        assert torch.equal(whole, alone)
    assert not torch.equal(model.sample_randomness(8, [5], 6).noise, one.noise)


def test_conditions_are_dropped_at_their_rate(model: DCAR) -> None:
    randomness = model.sample_randomness(0, range(2000), 6)
    assert abs(randomness.drop.float().mean() - 0.1) < 0.02
    assert randomness.mask.any(dim=1).all()
    assert (
        abs(randomness.mask.float().mean() - 0.637) < 0.03
    )  # the mean of arccos, architecture 6.1


def test_the_same_hidden_states_serve_both_losses_and_every_position(model: DCAR) -> None:
    given, randomness = batch(), model.sample_randomness(0, range(4), 6)
    for loss, changed in (
        (LossConfig(diffusion=0.0), "residual"),
        (LossConfig(cross_entropy=0.0), ""),
    ):
        model.zero_grad()
        model(**given, randomness=randomness, loss=loss).total.backward()
        grad = model.generator.embedding.weight.grad
        assert grad is not None and (grad != 0).any()
        if changed:
            assert model.head is not None
            assert all((p.grad == 0).all() for p in model.head.parameters() if p.grad is not None)


def test_discrete_only_has_no_head_and_no_diffusion_loss() -> None:
    model = DCAR(replace(TINY, discrete_only=True))
    assert model.head is None
    assert not any(name.startswith("head") for name in model.state_dict())
    losses = model(**batch(), randomness=model.sample_randomness(0, range(4), 6), loss=LossConfig())
    assert losses.diffusion == 0 and losses.total == losses.cross_entropy


def test_only_masked_and_dropped_inputs_are_hidden(model: DCAR) -> None:
    """What is masked does not leak: its true index has no effect but through the target."""
    given = batch()
    randomness = Randomness(
        torch.tensor([[True] + [False] * 5] * 4),
        torch.ones(4, dtype=torch.bool),
        torch.zeros(1, 4, 6, dtype=torch.long),
        torch.zeros(1, 4, 6, 8),
    )
    other = given | {"text": given["text"] + 1}
    other["indices"] = given["indices"].clone()
    other["indices"][:, 0, 0] = (other["indices"][:, 0, 0] + 1) % 64
    losses = [model(**x, randomness=randomness, loss=LossConfig()) for x in (given, other)]
    assert torch.equal(losses[0].diffusion, losses[1].diffusion)
    assert not torch.equal(losses[0].cross_entropy, losses[1].cross_entropy)


@torch.no_grad()
def test_losses_are_told_apart_by_mask_ratio(model: DCAR) -> None:
    """Samples of one ratio fill one quarter, with what the whole batch has."""
    given, randomness, loss = (
        batch(),
        model.sample_randomness(0, range(4), 6),
        LossConfig(unmasked_weight=1.0),
    )
    for masked, quarter in ((1, 0), (2, 1), (3, 1), (4, 2), (5, 3), (6, 3)):
        mask = (torch.arange(6) < masked).expand(4, 6)
        losses = model(**given, randomness=randomness._replace(mask=mask), loss=loss)
        assert losses.by_ratio[quarter, 2] == 4 * masked
        assert losses.by_ratio.count_nonzero() == losses.by_ratio[quarter].count_nonzero()
        only = model(**given, randomness=randomness._replace(mask=mask), loss=LossConfig())
        total, right, count = losses.by_ratio[quarter]
        assert torch.allclose(total / count, only.cross_entropy)
        assert torch.allclose(right / count, only.accuracy)


@pytest.mark.parametrize(
    ("schedule", "mean", "square"),
    [
        (Schedule.arccos, 2 / math.pi, 4 * (math.pi - 2) / math.pi**2),
        (Schedule.cosine, 2 / math.pi, 1 / 2),
        (Schedule.linear, 1 / 2, 1 / 3),
    ],
)
def test_the_ratio_follows_the_law_and_nothing_else_changes(
    model: DCAR, schedule: Schedule, mean: float, square: float
) -> None:
    """The first two moments of the law at a uniform place."""
    randomness, usual = (
        model.sample_randomness(0, range(2000), 64, mask_schedule=schedule),
        model.sample_randomness(0, [7], 64),
    )
    ratio = randomness.mask.float().mean(dim=1)
    assert ratio.mean().item() == pytest.approx(mean, abs=0.02)
    assert ratio.square().mean().item() == pytest.approx(square, abs=0.02)
    assert torch.equal(randomness.noise[:, 7:8], usual.noise) and torch.equal(
        randomness.t[:, 7:8], usual.t
    )

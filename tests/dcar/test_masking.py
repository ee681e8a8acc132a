from itertools import pairwise

import pytest
import torch

from dcar.config import GeneratorConfig, Schedule
from dcar.masking import lowest, mask_ratio, masked_counts, training_mask
from dcht.errors import UsageError


def revealed(num_tokens: int, num_masked: int, num_steps: int, schedule: Schedule) -> list[int]:
    left = [num_masked, *masked_counts(num_tokens, num_masked, num_steps, schedule)]
    return [before - after for before, after in pairwise(left)]


@pytest.mark.parametrize(
    ("tokens", "schedule", "expected"),
    [
        (64, Schedule.cosine, [1, 2, 2, 4, 5, 5, 7, 6, 8, 8, 8, 8]),
        (64, Schedule.arccos, [4, 3, 4, 3, 4, 4, 4, 4, 5, 6, 7, 16]),
        (256, Schedule.cosine, [3, 6, 11, 15, 18, 22, 26, 27, 31, 31, 33, 33]),
        (256, Schedule.arccos, [14, 14, 14, 14, 15, 15, 16, 17, 20, 22, 28, 67]),
        (64, Schedule.linear, [5, 5, 6, 5, 5, 6, 5, 5, 6, 5, 5, 6]),
    ],
)
def test_tokens_revealed_by_twelve_steps(
    tokens: int, schedule: Schedule, expected: list[int]
) -> None:
    assert revealed(tokens, tokens, 12, schedule) == expected


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("masked", [0, 1, 2, 5, 63, 64])
@pytest.mark.parametrize("steps", [1, 2, 12, 100])
def test_every_step_reveals_and_the_last_reveals_all(
    schedule: Schedule, masked: int, steps: int
) -> None:
    counts = revealed(64, masked, steps, schedule)
    assert len(counts) == steps and sum(counts) == masked and min(counts) >= 0
    # One at least while there is one to spare for the last step.
    assert all(count >= 1 for count in counts[: max(0, min(steps, masked) - 1)])


def test_ratio_runs_from_one_to_zero() -> None:
    progress = torch.linspace(0, 1, 101, dtype=torch.float64)
    for schedule in Schedule:
        ratio = mask_ratio(progress, schedule)
        assert ratio[0] == 1 and abs(ratio[-1]) < 1e-12
        assert (ratio.diff() < 0).all()


def test_training_mask_has_its_count_and_at_least_one() -> None:
    order = torch.rand(3, 64, generator=torch.Generator().manual_seed(0))
    ratios = torch.tensor([0.0, 0.5, 0.999999])
    mask = training_mask(ratios, order, Schedule.arccos)
    assert mask.sum(dim=1).tolist() == [64, 43, 1]  # 64 arccos(0.5) / (pi / 2) = 42.7


def test_a_share_of_the_samples_is_masked_whole() -> None:
    """A quarter: draws below it, while the others are stretched over the law."""
    order = torch.rand(3, 64, generator=torch.Generator().manual_seed(0))
    ratios = torch.tensor([0.2, 0.625, 0.999999])
    mask = training_mask(ratios, order, Schedule.arccos, fully_masked=0.25)
    assert mask.sum(dim=1).tolist() == [64, 43, 1]  # 0.625 is half of the way from 0.25 to 1


@pytest.mark.parametrize("share", [-0.5, 1.0])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match=rf"fully_masked is {share}; expected at least 0"):
        GeneratorConfig(fully_masked=share)


def test_exactly_k_under_ties() -> None:
    scores = torch.tensor([[1.0, 1.0, 1.0, 1.0], [float("inf"), 0.0, 0.0, float("inf")]])
    marked = lowest(scores, torch.tensor([2, 1]))
    assert marked.tolist() == [[True, True, False, False], [False, True, False, False]]
    assert not lowest(scores, torch.tensor([0, 0])).any()

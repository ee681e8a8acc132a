import pytest
import torch

from dcar.config import Order, SamplingConfig, Schedule
from dcar.sampling.orders import halton_ranks, halton_scores, parity_stages, plan_steps, stage_steps

CPU = torch.device("cpu")


@pytest.mark.parametrize("height", range(1, 33))
def test_stages_partition_every_grid_and_the_last_holds_the_odd_parity(height: int) -> None:
    for width in range(1, 49):
        parity = (torch.arange(height)[:, None] + torch.arange(width)) % 2
        for count in (1, 2, 3, 4):
            stages = parity_stages(height, width, count)
            assert stages.shape == (count, height * width)
            assert torch.equal(stages.sum(dim=0), torch.ones(height * width, dtype=torch.int64))
            if count > 1:
                assert torch.equal(stages[-1], parity.flatten() == 1)


def test_sizes_of_the_stages() -> None:
    assert parity_stages(8, 8, 3).sum(dim=1).tolist() == [16, 16, 32]
    assert parity_stages(16, 16, 4).sum(dim=1).tolist() == [32, 32, 64, 128]


def test_no_two_positions_of_a_stage_are_neighbors() -> None:
    for stage in parity_stages(8, 12, 3).unflatten(1, (8, 12)):
        assert not (stage[1:] & stage[:-1]).any()
        assert not (stage[:, 1:] & stage[:, :-1]).any()


def test_steps_of_the_stages() -> None:
    assert {n: stage_steps(n) for n in (1, 2, 3, 4, 6, 8, 12)} == {
        1: [1], 2: [1, 1], 3: [1, 1, 1], 4: [2, 1, 1], 6: [3, 2, 1], 8: [5, 2, 1], 12: [7, 4, 1],
    }  # fmt: skip
    for steps in range(1, 101):
        assert sum(stage_steps(steps)) == steps
        assert stage_steps(steps) == sorted(stage_steps(steps), reverse=True)


def test_a_plan_reveals_stage_after_stage() -> None:
    config = SamplingConfig(num_steps=8, order=Order.gtr, schedule=Schedule.linear)
    plan = plan_steps(torch.ones(1, 64, dtype=torch.bool), grid=(8, 8), config=config, device=CPU)
    stages = parity_stages(8, 8, 3)
    assert [int(step.left) for step in plan] == [13, 10, 7, 4, 0, 8, 0, 0]
    for step, stage in zip(plan, [0, 0, 0, 0, 0, 1, 1, 2], strict=True):
        assert torch.equal(step.stage, stages[stage])


def test_a_plan_inside_a_mask_counts_each_image_and_stage_by_itself() -> None:
    masked = torch.zeros(3, 64, dtype=torch.bool)
    masked[0, :20] = True
    masked[1] = True
    config = SamplingConfig(num_steps=6, order=Order.gtr, stage_steps=[2, 1, 3])
    plan = plan_steps(masked, grid=(8, 8), config=config, device=CPU)
    stages = parity_stages(8, 8, 3)
    hidden, before = masked.clone(), {}
    for step in plan:
        stage = tuple(step.stage.tolist())
        assert step.sampled == before.get(stage, int((hidden & step.stage).sum()))
        before[stage] = int(step.left.sum())
        for image in range(3):
            assert 0 <= step.left[image] <= (hidden[image] & step.stage).sum()
    ends = [plan[1], plan[2], plan[5]]
    for step, stage in zip(ends, stages, strict=True):
        assert torch.equal(step.stage, stage)
        assert step.left.tolist() == [0, 0, 0]


def test_one_stage_is_the_plan_of_a_plain_order() -> None:
    masked = torch.rand(4, 35, generator=torch.Generator().manual_seed(0)) < 0.6
    for schedule in Schedule:
        plain = SamplingConfig(num_steps=7, schedule=schedule)
        single = SamplingConfig(num_steps=7, schedule=schedule, order=Order.gtr, stage_steps=[7])
        for a, b in zip(
            plan_steps(masked, grid=(5, 7), config=plain, device=CPU),
            plan_steps(masked, grid=(5, 7), config=single, device=CPU),
            strict=True,
        ):
            assert torch.equal(a.stage, b.stage) and torch.equal(a.left, b.left)


def test_halton_sequence() -> None:
    # Bases 2 and 3: (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9), (5/8, 7/9), ...
    ranks = halton_ranks(8, 9).unflatten(0, (8, 9))
    assert [int(ranks[at]) for at in ((4, 3), (2, 6), (6, 1), (1, 4), (5, 7))] == [0, 1, 2, 3, 4]
    for height, width in ((1, 1), (1, 7), (5, 3), (32, 48)):
        found = halton_ranks(height, width).sort().values
        assert torch.equal(found, torch.arange(height * width))


def test_each_image_enters_the_halton_sequence_where_its_draw_says() -> None:
    ranks = halton_ranks(4, 4)
    scores = halton_scores(halton_ranks(4, 4), torch.tensor([0.0, 0.5, 0.999]))
    for scored, first in zip(scores, (0, 8, 15), strict=True):
        visited = ranks[scored.argsort(descending=True)]
        assert visited.tolist() == [(first + step) % 16 for step in range(16)]

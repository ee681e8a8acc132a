"""Plans of trainings: the words of the command line, and the arithmetic of memory and time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dcht.engine.plan import Cluster, Cost, Work, cost_of, describe, take_plan
from dcht.errors import UsageError

WORK = Work(
    title="x",
    parameters={"net": 1_000_000_000},
    frozen=0,
    image=Cost(1e12, 1e9),
    image_recomputed=Cost(1.3e12, 1e8),
    batch_size=64,
    accumulate=2,
    steps=1000,
    shardable=True,
    notes=[],
)


def test_a_plan_is_taken_out_of_the_command_line() -> None:
    words = ["+experiment=a", "plan=true", "plan.gpus=64", "out=x", "plan.gpu=h100"]
    assert take_plan(words) == Cluster(gpus=64, gpu="h100", utilization=0.4)
    assert words == ["+experiment=a", "out=x"]
    assert take_plan(["plan=false"]) is None and take_plan(["out=plan=true"]) is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("plan=yes", "plan is 'yes'; expected true or false"),
        ("plan.gpus=many", "plan.gpus is 'many', which is no number"),
        ("plan.gpus=0", "gpus is 0"),
        ("plan.gpu=abacus", "expected one of a100, h100, h200, b200"),
        ("plan.gpux=3", "plan.gpux is no setting"),
        ("plan.utilization=0", "a step would take for ever"),
        ("plan.utilization=2", "utilization is 2"),
    ],
)
def test_what_no_plan_has_is_refused(word: str, message: str) -> None:
    words = [word] if word.startswith("plan=") else ["plan=true", word]
    with pytest.raises(UsageError, match=message):
        take_plan(words)


def test_settings_of_a_plan_need_one() -> None:
    with pytest.raises(UsageError, match="of a plan; add plan=true"):
        take_plan(["plan.gpus=8"])


def test_memory_network_and_time_are_sums_that_can_be_done_by_hand() -> None:
    """10^9 parameters: 4 + 4 + 8 + 4 GB of states and 2 GB of bf16 copies; 4 images at once."""
    text = describe(WORK, Cluster(gpus=8, utilization=0.5))
    ddp, fsdp = text[text.index("memory, DDP") :].split("memory, FSDP2")
    assert "activations kept       4.00 GB: 26.0 GB in all, fits" in ddp
    assert "activations recomputed 0.40 GB: 22.4 GB in all, fits" in ddp
    assert "activations kept       4.00 GB: 8.5 GB in all" in fsdp  # 20 / 8 + 2 + 4
    # A ring sends 2 x 7/8 of the gradients; FSDP2 gathers weights twice for each micro-batch.
    assert "network, DDP        7.00 GB a rank and step, 0.023 s" in text
    assert "network, FSDP2      17.50 GB a rank and step" in text
    # 64 x 10^12 / 8 / (312 x 10^12 / 2) = 0.0513 s
    assert "time a step         0.051 s at 50%" in text
    assert "1,000 steps, 0.1 M images: 0.00 days, 0 GPU hours" in text
    with pytest.raises(
        UsageError, match="batch_size 64 is not a multiple of accumulate 2 times 48"
    ):
        describe(WORK, Cluster(gpus=48))


def test_an_image_costs_its_products_and_what_they_keep() -> None:
    """Two layers on fake tensors: 2 x 8 x 16 FLOPs each, thrice; input and ReLU's output kept."""
    with FakeTensorMode():
        network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

        def step(count: int) -> Tensor:
            return network(torch.randn(count, 8, requires_grad=True)).sum()

        found = cost_of(step, network=network)
    assert found == Cost(flops=3 * 2 * (2 * 8 * 16), kept=4 * (8 + 16))

"""GlobalBatchNorm2d against torch's own on the whole batch, forward, backward and running."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from dcht.engine.distributed import World
from dcht.train.batch_norm import GlobalBatchNorm2d, normalize_over_ranks

TWO_RANKS = """
import torch
from torch import nn
from dcht.train.batch_norm import normalize_over_ranks
from dcht.engine.distributed import world

draws = torch.Generator().manual_seed(0)
batch = torch.randn(4, 3, 5, 5, generator=draws) * 2 + 7
weights = torch.randn(4, 3, 5, 5, generator=draws)
with world("cpu") as ranks:
    whole = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    whole[1].weight.data.uniform_(0.5, 2, generator=draws)
    ranks.align(whole)
    ours = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    ours.load_state_dict(whole.state_dict())
    normalize_over_ranks(ours, ranks)
    expected, part = whole(batch), slice(2 * ranks.rank, 2 * ranks.rank + 2)
    (expected * weights).mean().backward()
    output = ours(batch[part])
    (output * weights[part]).mean().backward()
    ranks.average_gradients(ours.parameters())
    torch.testing.assert_close(output, expected[part], rtol=1e-5, atol=1e-5)
    for a, b in zip(ours.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.eval()(batch), whole.eval()(batch))
"""


def test_two_ranks_normalize_by_the_whole_batch(run_ranks):
    run_ranks(2, "-c", TWO_RANKS)


def test_a_world_of_one_keeps_torchs_own():
    model = nn.Sequential(nn.BatchNorm2d(3))
    normalize_over_ranks(model, World(0, 1, torch.device("cpu")))
    assert type(model[0]) is nn.BatchNorm2d


def test_in_evaluation_no_rank_waits_for_another():
    assert not dist.is_initialized()
    layer, images = GlobalBatchNorm2d(3), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(layer.eval()(images), images, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="process group"):
        layer.train()(images)

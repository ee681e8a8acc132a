"""A world of one and, in processes of their own, two gloo ranks."""

import pytest
import torch

from dcht import UsageError
from dcht.engine import distributed
from dcht.engine.distributed import Place, find_place, world

TWO_RANKS = """
import sys
from pathlib import Path

import torch
from dcht.engine.distributed import world
from dcht.errors import UsageError
from dcht.files import locked
from dcht.engine.run_folder import sole_run

with world("cpu") as ranks:
    assert (ranks.size, ranks.device.type) == (2, "cpu")
    ours = torch.tensor([1.0, 10.0]) * (ranks.rank + 1)
    assert ranks.sum(ours).tolist() == [3.0, 30.0]
    assert ours.tolist() == [ranks.rank + 1.0, 10.0 * (ranks.rank + 1)]
    assert ranks.gather(ours).tolist() == [1.0, 10.0, 2.0, 20.0]
    assert ranks.gather(torch.tensor([[ranks.rank, 7]])).tolist() == [[0, 7], [1, 7]]
    assert ranks.broadcast({"from": ranks.rank}) == {"from": 0}
    ranks.barrier()
    torch.manual_seed(ranks.rank)
    layer = torch.nn.Conv2d(2, 3, 1).to(memory_format=torch.channels_last)
    ranks.align(layer)
    assert torch.equal(*ranks.gather(layer.weight.flatten()).chunk(2))
    for parameter in layer.parameters():
        parameter.grad = torch.full_like(parameter, 1.0 + 2 * ranks.rank)
    ranks.average_gradients(layer.parameters())
    assert all(bool((parameter.grad == 2).all()) for parameter in layer.parameters())
    assert ranks.main == (ranks.rank == 0)
    assert ranks.on_main(lambda: ("of rank", ranks.rank)) == ("of rank", 0)
    # A run's folder: rank 0 holds it for both, and both are told where somebody else does.
    out = Path(sys.argv[1]) / "run"
    with sole_run(out, ranks):
        ranks.barrier()
        assert (out / ".lock").exists()
        try:
            with sole_run(out, ranks):
                raise AssertionError("twice")
        except UsageError as error:
            print(ranks.rank, error, file=sys.stderr)
        ranks.barrier()
assert not torch.distributed.is_initialized()
"""


def test_a_process_without_a_launcher_is_alone(monkeypatch):
    for name in ("RANK", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    tensor = torch.tensor([1.0])
    with world("cpu") as alone:
        assert (alone.rank, alone.size, alone.main) == (0, 1, True)
        assert alone.sum(tensor) is tensor
        assert alone.gather(tensor) is tensor
        assert alone.broadcast("value") == "value"
        alone.barrier()
        assert not torch.distributed.is_initialized()


def test_two_ranks_share_sums_tensors_objects_gradients_and_a_lock(run_ranks, tmp_path):
    told = run_ranks(2, "-c", TWO_RANKS, tmp_path)
    for rank in (0, 1):
        assert f"{rank} {tmp_path / 'run'} is being written by process " in told[rank]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place(0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Place(3, 8, 1)),
        (
            {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "16", "SLURM_LOCALID": "1"},
            Place(5, 16, 1),
        ),
        # A batch script without srun: SLURM says four tasks, but only this process runs.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, Place(0, 1, 0)),
        # torchrun inside a SLURM step.
        (
            {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
            | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_LOCALID": "0"},
            Place(1, 2, 1),
        ),
    ],
)
def test_a_launcher_says_where_a_process_stands(environment, place):
    assert find_place(environment) == place


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu7", "gpu7"), ("n[03-05,9],m1", "n03"), ("a-1,a-2", "a-1"), ("", "127.0.0.1")],
)
def test_ranks_meet_on_the_first_host_of_a_slurm_step(nodes, first):
    assert distributed._first_host(nodes) == first


def test_one_device_for_several_ranks_is_refused(monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "pick_device", torch.device)
    for device in ("mps", "cuda:1"):
        with (
            pytest.raises(UsageError, match=f"device '{device}' cannot be that of 2 ranks"),
            world(device),
        ):
            pass

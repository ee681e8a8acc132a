"""Runs of two gloo ranks, in processes of their own, beside the run of one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dcar.train import train
from dcar.train_config import OptimizerConfig, Parallel, TrainConfig


def losses(config: TrainConfig) -> list[list[float]]:
    lines = (Path(config.out) / "metrics.jsonl").read_text().splitlines()
    names = ("total", "cross_entropy", "diffusion", "grad_norm", "accuracy")
    return [[json.loads(line)[name] for name in names] for line in lines]


def stopped_at_ten(config: TrainConfig, out: Path) -> TrainConfig:
    """A copy of a finished run, as if it had ended after its save at step 10."""
    shutil.copytree(config.out, out)
    shutil.rmtree(out / "resume" / "step-000000020")
    return replace(config, out=str(out))


@pytest.mark.slow
def test_two_ranks_follow_one_and_continue_each_other(
    config: TrainConfig, tmp_path: Path, launch
) -> None:
    """Masks, drops and noise belong to samples, losses to the global batch, saves to no rank.

    Twenty steps at the paper's rate, dropout 0.
    """
    one = replace(
        config,
        out=str(tmp_path / "one"),
        steps=20,
        optimizer=OptimizerConfig(lr=1e-4, warmup_steps=0, ema_decay=0.5),
        prompts=[],
        reconstructions=0,
        log_every=1,
        save_every=10,
    )
    assert train(one)
    ddp = replace(one, out=str(tmp_path / "ddp"), accumulate=3)
    fsdp2 = replace(one, out=str(tmp_path / "fsdp2"), parallel=Parallel.fsdp2, accumulate=3)
    then_two = replace(stopped_at_ten(one, tmp_path / "then-two"), parallel=Parallel.fsdp2)

    for run in (ddp, fsdp2, then_two):
        # Processes of its own each: a process joins a world once, where its launcher says.
        ranks = launch(run, ranks=2)
        errors = [rank.communicate()[1] for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0, 0], "".join(errors)
        assert f"2 ranks, {run.parallel.value}" in errors[0] and "ranks" not in errors[1]
    saved = Path(fsdp2.out) / "resume" / "step-000000010"
    assert len(list(saved.glob("shard-*.safetensors"))) == 2
    then_one = stopped_at_ten(fsdp2, tmp_path / "then-one")
    assert train(then_one)

    expected = losses(one)
    assert expected[-1][0] < expected[0][0]
    weights = load_file(Path(one.out) / "checkpoint" / "model.safetensors")
    for run in (ddp, fsdp2, then_two, then_one):
        found = losses(run)
        assert found[0] == pytest.approx(expected[0], rel=1e-6)
        for row, wanted in zip(found, expected, strict=True):
            assert row == pytest.approx(wanted, rel=1e-4)
        for key, value in load_file(Path(run.out) / "checkpoint" / "model.safetensors").items():
            torch.testing.assert_close(value, weights[key], rtol=1e-3, atol=1e-5)

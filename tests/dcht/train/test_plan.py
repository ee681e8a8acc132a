"""The plan of a tokenizer's training: parameters by stage, activations as measured."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import profile

from dcht import PRESETS, Tokenizer
from dcht.engine.plan import Cluster
from dcht.errors import UsageError
from dcht.train.plan import build, cost, loss, plan
from dcht.train_config import DataConfig, LossConfig, Stage, TrainConfig


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(
        out="nowhere",
        tokenizer=PRESETS["tiny"],
        data=DataConfig(root="nowhere", size=64, crop=64),
        loss=LossConfig(lpips=0.0, gan=0.0),
        batch_size=4,
    )


def test_a_stage_trains_what_it_says_and_no_data_is_read(config: TrainConfig) -> None:
    texts = plan(config, Cluster(gpus=2)).split("\n\n")
    assert [text.split(", ")[1] for text in texts] == [stage.value for stage in Stage]
    tokenizer = Tokenizer(config.tokenizer)
    counts = {
        name: sum(p.numel() for p in part.parameters()) / 1e6
        for name, part in tokenizer.named_children()
    }
    decoder, encoder, codebook = (
        f"{name} {counts[key]:.1f} M"
        for name, key in (("decoder", "decoder"), ("encoder", "encoder"), ("codebook", "quantizer"))
    )
    assert f"trained ({decoder}, {encoder}), " in texts[0]
    assert f"trained ({decoder}, {encoder}, {codebook}), 0.0 M frozen" in texts[1]
    assert f"trained ({decoder}), " in texts[2]
    assert "12,811,670 steps" in texts[1]  # 40 epochs of ImageNet-1k in batches of 4
    with pytest.raises(UsageError, match="not a multiple of accumulate 1 times 3 GPUs"):
        plan(config, Cluster(gpus=3))


def test_activations_are_those_of_a_measured_run(config: TrainConfig) -> None:
    """What is alive after a forward pass of the first stage, by the profiler, within a tenth."""
    stage = config.plan()[0].settings
    with FakeTensorMode():
        expected = cost(build(config), config, stage, bf16=False)
    networks = build(config)

    def alive(images: int) -> int:
        with profile(profile_memory=True) as found:
            total = loss(networks, config, stage, images)
        assert total.requires_grad
        return sum(event.self_cpu_memory_usage for event in found.key_averages())

    torch.manual_seed(0)
    alive(1)  # what is made once stays
    measured = (alive(4) - alive(2)) / 2
    assert expected.kept == pytest.approx(measured, rel=0.1)

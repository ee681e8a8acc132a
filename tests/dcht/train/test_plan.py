"""The plan of a tokenizer's training: parameters by stage, activations as measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import profile

from dcht import PRESETS, Tokenizer
from dcht.engine.plan import Cluster
from dcht.errors import UsageError
from dcht.train.plan import build, cost, loss, plan
from dcht.train_config import DataConfig, LossConfig, Stage, StageLoss, TrainConfig


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
        expected = cost(build(config, stage), config, stage, bf16=False)
    networks = build(config, stage)

    def alive(images: int) -> int:
        with profile(profile_memory=True) as found:
            total = loss(networks, config, stage, images)
        assert total.requires_grad
        return sum(event.self_cpu_memory_usage for event in found.key_averages())

    torch.manual_seed(0)
    alive(1)  # what is made once stays
    measured = (alive(4) - alive(2)) / 2
    assert expected.kept == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(("run", "last"), [(0.0, 0.5), (0.5, 0.0)])
def test_a_stage_has_the_networks_of_its_own_losses(
    config: TrainConfig, run: float, last: float
) -> None:
    """Not of the run's: a stage may add the GAN and LPIPS, or leave them out."""
    config = replace(
        config,
        stages=[Stage.continuous_warmup, Stage.alternate_finetune],
        loss=replace(config.loss, gan=run, lpips=run, discriminator_channels=8),
        alternate_finetune=replace(config.alternate_finetune, loss=StageLoss(gan=last, lpips=last)),
    )
    texts = plan(config, Cluster(gpus=2)).split("\n\n")
    for stage, weight, text in zip(config.plan(), (run, last), texts, strict=True):
        with FakeTensorMode():
            networks = dict(build(config, stage.settings).named_children())
        assert [name in networks for name in ("discriminator", "lpips")] == [weight > 0] * 2
        assert ("discriminator" in text) == (weight > 0)

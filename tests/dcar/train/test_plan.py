"""The plan of a training: parameters by count, activations against a run that was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.profiler import profile

from dcar.config import PRESETS
from dcar.model import DCAR
from dcar.modules.transformer import position_table
from dcar.train.plan import costs, loss, plan
from dcar.train_config import TrainConfig
from dcht.engine.plan import Cluster

SIDE, MASKED = 8, 40


def test_activations_are_those_of_a_measured_run() -> None:
    """What is alive after a forward pass on a CPU, by the profiler, within a tenth."""
    config = PRESETS["small"]
    config = replace(config, generator=replace(config.generator, depth=3))
    expected, recomputed = costs(config, SIDE, MASKED, bf16=False)
    network = DCAR(config).eval()
    assert network.head is not None
    parts = torch.nn.ModuleDict({"transformer": network.generator, "head": network.head})

    def alive(images: int) -> int:
        with profile(profile_memory=True) as found:
            total = loss(parts, images, SIDE, MASKED)
        assert total.requires_grad
        return sum(event.self_cpu_memory_usage for event in found.key_averages())

    alive(1)  # what is made once stays
    measured = (alive(4) - alive(2)) / 2
    assert expected.kept == pytest.approx(measured, rel=0.1)
    assert recomputed.kept < expected.kept and recomputed.flops > expected.flops
    # What was computed with fake tensors is not found by networks that compute.
    width, extent = config.generator.width, config.generator.position_extent
    assert type(position_table(SIDE, SIDE, width, extent, torch.device("cpu"))) is torch.Tensor


def test_a_plan_counts_the_model_and_reads_no_data(config: TrainConfig) -> None:
    config.data.root = "nowhere"
    text = plan(config, Cluster(gpus=2, gpu="h100"))
    model = DCAR(config.model)
    for name, part in (("transformer", model.generator), ("head", model.head)):
        assert part is not None
        assert f"{name} {sum(p.numel() for p in part.parameters()) / 1e6:.1f} M" in text
    assert "8 steps, 0.0 M images" in text

"""The plan of a training: parameters by count, activations against a run that was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.profiler import profile

from dcar.config import PRESETS
from dcar.model import DCAR
from dcar.modules.transformer import position_table
from dcar.train.plan import costs, loss, plan, sizes_of
from dcar.train_config import DataConfig, DataKind, LoraConfig, SourceConfig, TrainConfig
from dcht import Tokenizer, UsageError
from dcht.engine.plan import Cluster, Cost
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings

GRID, MASKED = (8, 8), 40


def test_activations_are_those_of_a_measured_run() -> None:
    """What is alive after a forward pass on a CPU, by the profiler, within a tenth."""
    config = PRESETS["small"]
    config = replace(config, generator=replace(config.generator, depth=3))
    expected, recomputed = costs(config, GRID, MASKED, bf16=False)
    network = DCAR(config).eval()
    assert network.head is not None
    parts = torch.nn.ModuleDict({"transformer": network.generator, "head": network.head})

    def alive(images: int) -> int:
        with profile(profile_memory=True) as found:
            total = loss(parts, images, GRID, MASKED)
        assert total.requires_grad
        return sum(event.self_cpu_memory_usage for event in found.key_averages())

    alive(1)  # what is made once stays
    measured = (alive(4) - alive(2)) / 2
    assert expected.kept == pytest.approx(measured, rel=0.1)
    assert recomputed.kept < expected.kept and recomputed.flops > expected.flops
    # What was computed with fake tensors is not found by networks that compute.
    width, extent = config.generator.width, config.generator.position_extent
    assert type(position_table(*GRID, width, extent, torch.device("cpu"))) is torch.Tensor


def test_a_plan_counts_the_model_and_reads_no_data(config: TrainConfig) -> None:
    config.data.root = "nowhere"
    text = plan(config, Cluster(gpus=2, gpu="h100"))
    model = DCAR(config.model)
    for name, part in (("transformer", model.generator), ("head", model.head)):
        assert part is not None
        assert f"{name} {sum(p.numel() for p in part.parameters()) / 1e6:.1f} M" in text
    assert "8 steps, 0.0 M images" in text


def test_a_plan_is_of_the_largest_size_that_a_run_shows(
    config: TrainConfig, saved_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store has its own size, whatever `data.size` says; one that is not there yet has none."""
    grids: list[tuple[int, int]] = []

    def costs(_: object, grid: tuple[int, int], masked: int) -> tuple[Cost, Cost]:
        assert 0 < masked <= grid[0] * grid[1]
        grids.append(grid)
        return Cost(1e9, 1e6), Cost(2e9, 1e5)

    monkeypatch.setattr("dcar.train.plan.costs", costs)
    Image.new("RGB", (96, 64)).save(tmp_path / "a.png")
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    settings = EncodeSettings(size=(96, 64), batch_size=1)
    encode_images(tokenizer, tmp_path / "a.png", tmp_path / "store", settings)
    stored = DataConfig(kind=DataKind.latents, root=str(tmp_path / "store"), size=512)
    assert sizes_of(stored) == [(96, 64)]
    text = plan(replace(config, data=stored), Cluster(gpus=2))
    assert "dcar-train, 96 x 64 px, 6 tokens" in text and "at most" not in text
    later = SourceConfig(kind=DataKind.latents, root="later")
    text = plan(replace(config, data=replace(stored, mixture=[later])), Cluster(gpus=2))
    assert "not there yet       later: counted as 512 px" in text
    assert sizes_of(replace(stored, mixture=[later])) == [(96, 64), (512, 512)]
    fly = DataConfig(kind=DataKind.folder, root="x", buckets=["32x32", "32x64"], mixture=[later])
    assert sizes_of(fly) == [(32, 32), (32, 64)]
    text = plan(replace(config, data=fly), Cluster(gpus=2))
    assert "dcar-train, 32 x 64 px, 2 tokens" in text
    assert "all that at most    32 x 64 px is the largest of 2 sizes" in text
    assert grids == [(2, 3), (16, 16), (2, 1)]  # height before width


def test_a_plan_of_lora_is_refused(config: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"lora\.rank is 4: a plan is of a run that trains all"):
        plan(replace(config, lora=LoraConfig(rank=4)), Cluster(gpus=2))

"""One unmasking step of the sampler: what guidance costs, and what keeping the text's keys saves.

A first step embeds the text, projects it to the keys and values of every block, and keeps them; a
later one reuses them. Noise, guidance and the choice of what to hide again are inside the time.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from dcar.config import PRESETS, SamplingConfig
from dcar.sampler import Step, unmask
from dcar.transformer import Generator

GUIDED, PLAIN = SamplingConfig(), SamplingConfig(cfg_scale=0.0)


@pytest.mark.parametrize(
    ("config", "done"),
    [
        pytest.param(PLAIN, 1, id="later-unguided"),
        pytest.param(GUIDED, 1, id="later-guided"),
        pytest.param(GUIDED, 0, id="first-guided"),
    ],
)
@pytest.mark.parametrize("length", [24, 120], ids=["text24", "text120"])
def bench_step(benchmark: BenchmarkFixture, length: int, config: SamplingConfig, done: int) -> None:
    benchmark.group = f"one sampler step, preset small, 256 px, batch 4, {length} text tokens"
    model = Generator(replace(PRESETS["small"].generator, text_length=length)).eval()
    seeded = torch.Generator().manual_seed(0)
    text = torch.randn(4, length, model.config.text_dim, generator=seeded)
    text_mask = torch.ones(4, length, dtype=torch.bool)

    def after_steps() -> tuple[tuple[Iterator[Step]], dict[str, object]]:
        steps = unmask(model, text, text_mask, grid=(8, 8), config=config, generators=seeded)
        for _ in range(done):
            next(steps)
        return (steps,), {}

    with torch.inference_mode():
        benchmark.pedantic(next, setup=after_steps, rounds=20, warmup_rounds=2)

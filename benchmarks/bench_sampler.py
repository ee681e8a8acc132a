"""One step of the sampler: guidance as one doubled batch; the text's keys kept between steps."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dcar.config import PRESETS, SamplingConfig
from dcar.sampler import guidance_context, unmask
from dcar.transformer import Generator, TextContext

BATCH, GRID = 4, (8, 8)
CONFIG = SamplingConfig()
STEPS = 14
"""At least as many as a benchmark has rounds."""

Versus = Callable[[Callable[[], object], Callable[[], object]], None]


@pytest.fixture(params=[24, 120], ids=["text24", "text120"])
def model(request: pytest.FixtureRequest) -> Generator:
    """The network of preset `small`, which is the bundled one, for prompts of this length."""
    config = replace(PRESETS["small"].generator, text_length=request.param)
    return Generator(config).eval()


@pytest.fixture
def text(model: Generator) -> tuple[Tensor, Tensor]:
    shape = (BATCH, model.config.text_length, model.config.text_dim)
    seeded = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=seeded), torch.ones(shape[:2], dtype=torch.bool)


def bench_guidance(versus: Versus, model: Generator, text: tuple[Tensor, Tensor]) -> None:
    """Both branches in one pass, against a pass for each."""
    with torch.inference_mode():
        both = guidance_context(model, *text, CONFIG.cfg_scale)
        keys = zip(*(key.chunk(2) for key in both.keys), strict=True)
        values = zip(*(value.chunk(2) for value in both.values), strict=True)
        halves = [
            TextContext(list(k), list(v), m)
            for k, v, m in zip(keys, values, both.mask.chunk(2), strict=True)
        ]
        hidden = torch.full((BATCH, *GRID), model.mask_id)
        doubled = torch.cat([hidden, hidden])
        versus(
            lambda: model(doubled, context=both),
            lambda: [model(hidden, context=half) for half in halves],
        )


def bench_step(versus: Versus, model: Generator, text: tuple[Tensor, Tensor]) -> None:
    """A whole later step, noise and choice included, against one that embeds the text again."""

    def prepared(steps_done: int) -> list[Callable[[], object]]:
        runs = []
        for seed in range(STEPS):
            seeds = torch.Generator().manual_seed(seed)
            run = unmask(model, *text, grid=GRID, config=CONFIG, generators=seeds)
            for _ in range(steps_done):
                next(run)
            runs.append(run.__next__)
        return runs

    with torch.inference_mode():
        later, first = prepared(1), prepared(0)
        versus(lambda: later.pop()(), lambda: first.pop()())

"""The sampler: what its savings save, each against the same result made the plain way."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch import Tensor

from dcar.config import PRESETS, Guidance, SamplingConfig, Solver, with_preset
from dcar.masking import lowest, masked_counts
from dcar.modules.diffusion import GaussianDiffusion, respaced_timesteps
from dcar.modules.diffusion_head import DiffusionHead, HeadNoise, guide
from dcar.modules.packed import Linear, laid_out
from dcar.modules.transformer import Generator, TextContext
from dcar.sampler import Step, StepNoise, sample_indices, sample_residual, unmask
from dcar.sampling.guidance import guidance_context, step_scale

BATCH, GRID = 4, (8, 8)
CONFIG = SamplingConfig()

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
        both = guidance_context(model, *text, guided=True)
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
    """A whole step, noise and choice included, against one that embeds the text again."""

    with torch.inference_mode():
        context, embedded = guidance_context(model, *text, guided=True), copy(model)
        embedded.embed_text = lambda text, text_mask: context

        def step(network: Generator) -> Step:
            seeds = torch.Generator().manual_seed(0)
            return next(unmask(network, *text, grid=GRID, config=CONFIG, generators=seeds))

        versus(lambda: step(embedded), lambda: step(model))


def bench_loop(versus: Versus) -> None:
    """All steps with the paper's 16,384 codes, against 1d-tokenizer's way with the same noise.

    That is: both branches in every step, the text embedded again in each, logits, noise and a
    candidate at every position. The images are the same.
    """
    wide = Generator(replace(PRESETS["small"].generator, codebook_size=16384)).eval()
    torch.nn.init.normal_(wide.to_logits.weight, std=0.1)
    count = GRID[0] * GRID[1]
    text = torch.randn(BATCH, wide.config.text_length, wide.config.text_dim)
    mask = torch.ones(text.shape[:2], dtype=torch.bool)
    noise = [
        StepNoise(torch.rand(BATCH, count, 16384), torch.rand(BATCH, count))
        for _ in range(CONFIG.num_steps)
    ]

    def plain() -> Tensor:
        indices = torch.full((BATCH, count), wide.mask_id)
        null = wide.drop_text(text, torch.ones(BATCH, dtype=torch.bool))
        lefts = masked_counts(count, count, CONFIG.num_steps, CONFIG.schedule)
        for step, left in enumerate(lefts):
            rest = 1 - (step + 1) / CONFIG.num_steps
            grid = rearrange(torch.cat([indices, indices]), "b (h w) -> b h w", h=GRID[0])
            logits = wide(grid, torch.cat([text, null]), torch.cat([mask, mask])).logits
            logits = guide(*logits.chunk(2), step_scale(CONFIG, step))
            if CONFIG.logit_annealing:
                logits = logits / (0.5 + 0.8 * rest)
            final = CONFIG.final_temperature
            temperature = final + (CONFIG.temperature - final) * rest
            sampled = (logits + temperature * gumbel(noise[step].indices)).argmax(dim=2)
            scale = CONFIG.confidence_temperature
            scale = (CONFIG.temperature if scale is None else scale) * rest
            chosen = logits.gather(2, rearrange(sampled, "b n -> b n 1"))
            scores = rearrange(chosen, "b n 1 -> b n") + scale * gumbel(noise[step].order)
            hidden = indices == wide.mask_id
            again = lowest(scores.masked_fill(~hidden, torch.inf), torch.full((BATCH,), left))
            indices = torch.where(hidden, sampled, indices).masked_fill(again, wide.mask_id)
        return rearrange(indices, "b (h w) -> b h w", h=GRID[0])

    def ours() -> Tensor:
        return sample_indices(wide, text, mask, grid=GRID, config=CONFIG, noise=noise).indices

    with torch.inference_mode():
        assert (ours() == plain()).float().mean() > 0.9  # a near tie falls either way
        versus(ours, plain)


def gumbel(uniform: Tensor) -> Tensor:
    return -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()


def bench_logits(versus: Versus) -> None:
    """Guided logits of the codes where a quarter of the positions is hidden, against everywhere.

    With the paper's 16,384 codes: the logits are the widest tensor of a step.
    """
    wide = Generator(replace(PRESETS["small"].generator, codebook_size=16384)).eval()
    hidden = torch.randn(2 * BATCH, 64, wide.config.width)
    candidates = torch.rand(BATCH, 64) < 0.25

    def everywhere() -> Tensor:
        conditional, unconditional = wide.predict(hidden).chunk(2)
        return guide(conditional, unconditional, 4.5)

    def there() -> Tensor:
        rows = torch.cat([half[candidates] for half in hidden.chunk(2)])
        conditional, unconditional = wide.predict(rows).chunk(2)
        return guide(conditional, unconditional, 4.5)

    with torch.inference_mode():
        versus(there, everywhere)


@pytest.mark.parametrize("rows", [128, 512])
def bench_linear(versus: Versus, rows: int) -> None:
    """An MLP's two layers of the published width whose weights are laid out once, against torch's.

    `rows`: of one image at 256 and at 512 px, with guidance.
    """
    ours = torch.nn.Sequential(Linear(1152, 4608), Linear(4608, 1152)).eval()
    plain = torch.nn.Sequential(torch.nn.Linear(1152, 4608), torch.nn.Linear(4608, 1152)).eval()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(rows, 1152)
    with torch.inference_mode(), laid_out(ours):
        torch.testing.assert_close(ours(x), plain(x), atol=1e-4, rtol=0)
        versus(lambda: ours(x), lambda: plain(x))


@pytest.mark.parametrize("model", [24], indirect=True, ids=["text24"])
@pytest.mark.parametrize("name", ["interval", "gtr-8", "gtr-6"])
def bench_indices(versus: Versus, model: Generator, text: tuple[Tensor, Tensor], name: str) -> None:
    """All indices with fewer passes, against 12 steps that are all guided."""
    fewer = (
        replace(CONFIG, guidance=Guidance.interval)
        if name == "interval"
        else with_preset(CONFIG, name)
    )

    def draw(config: SamplingConfig) -> object:
        seeds = torch.Generator().manual_seed(0)
        return sample_indices(model, *text, grid=GRID, config=config, generators=seeds)

    with torch.inference_mode():
        versus(lambda: draw(fewer), lambda: draw(CONFIG))


@pytest.fixture
def head() -> DiffusionHead:
    """The head of preset `small`."""
    return DiffusionHead(PRESETS["small"].head).eval()


@pytest.fixture
def conditions(head: DiffusionHead) -> Tensor:
    seeded = torch.Generator().manual_seed(0)
    return torch.randn(2 * BATCH, 64, head.config.condition_dim, generator=seeded)


def bench_head_embeddings(versus: Versus, head: DiffusionHead, conditions: Tensor) -> None:
    """The head with its embeddings made once, against a network asked afresh in each step."""
    steps = CONFIG.num_diffusion_steps
    noise = HeadNoise(torch.randn(BATCH, 64, 32), torch.randn(steps, BATCH, 64, 32))
    chain, rows = GaussianDiffusion(respaced_timesteps(steps)), conditions.flatten(0, 1)

    def afresh() -> Tensor:
        x = rearrange(noise.start, "b n c -> (b n) c")
        for step in reversed(range(steps)):
            t = torch.full((2 * len(x),), int(chain.timesteps[step]))
            cond, uncond = head(torch.cat([x, x]), t, rows).chunk(2)
            x0 = chain.denoised(guide(cond[:, :32], uncond[:, :32], 4.5), x, step)
            x = chain.posterior_mean(x0.clamp(-4, 4), x, step)
            if step:
                draws = rearrange(noise.steps[steps - 1 - step], "b n c -> (b n) c")
                x = x + (0.5 * chain.log_variance(cond[:, 32:], step)).exp() * draws
        return x

    with torch.inference_mode():
        versus(lambda: head.sample(conditions, steps, 4.5, noise=noise), afresh)


@pytest.mark.parametrize("solver", [Solver.ddim, Solver.dpmpp])
def bench_head_solver(
    versus: Versus, head: DiffusionHead, conditions: Tensor, solver: Solver
) -> None:
    """8 steps of a solver without noise, against the reference's 20."""
    fewer = replace(CONFIG, solver=solver, num_diffusion_steps=8)

    def refine(config: SamplingConfig) -> Tensor:
        seeds = torch.Generator().manual_seed(0)
        return sample_residual(head, conditions, config=config, generators=seeds)

    with torch.inference_mode():
        versus(lambda: refine(fewer), lambda: refine(CONFIG))

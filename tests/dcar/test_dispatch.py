"""Every member of an enum is served as itself, and one that nobody serves is refused.

A member that is only added to its enum must not be sampled as another one: `match` with
`assert_never`, or a table, wherever members are told apart.
"""

import sys
from dataclasses import replace
from enum import Enum
from itertools import combinations
from types import ModuleType
from typing import TypeVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dcar import DCAR, SamplingConfig, sample_indices, sample_residual
from dcar.config import Guidance, HeadGuidance, Order, Rounding, Schedule, Selector, Solver
from dcar.data.image_sets import list_images
from dcar.masking import mask_ratio, masked_counts, training_mask
from dcar.modules.solvers import Group, solve, solver_timesteps
from dcar.pipeline import TextToImage
from dcar.randomness import keyed_generator
from dcar.sampling.fts import select
from dcar.sampling.guidance import head_scale, step_scale
from dcar.train_config import DataKind
from dcar_eval.hard.grammar import HardScene, HardTask
from dcar_eval.hard.sample import sample_any
from dcar_eval.metrics.crops import cropping
from dcar_eval.metrics.pixels import eight_bits, ssim
from dcar_eval.metrics.protocol import Crop, MetricRounding, Ssim
from dcar_eval.scenes.sample import _sample
from dcar_eval.scenes.world import WORLDS, Scene, Task
from dcht import PRESETS as TOKENIZERS
from dcht import Tokenizer
from dcht.config import Act, Block, Norm, Resample
from dcht.images import Fit, fit_image
from dcht.latents import encode
from dcht.latents.encode import _run
from dcht.latents.encode_job import Backend, EncodeSettings, Flip
from dcht.modules.layers import build_block, build_norm, shuffles

WORDS = WORLDS["wide"]
ENCODING = EncodeSettings(size=(64, 64))

Member = TypeVar("Member", bound=Enum)
# Where the choice shows: `stage_order` with stages only, and so on.
CONFIG = SamplingConfig(
    num_steps=6, num_diffusion_steps=8, fts_steps=3, cfg_scale=1.0, interval_low=0, stage_steps=None
)
CHOICES: list[tuple[str, type[Enum], SamplingConfig]] = [
    ("order", Order, CONFIG),
    ("stage_order", Order, replace(CONFIG, order=Order.gtr)),
    ("schedule", Schedule, CONFIG),
    ("guidance", Guidance, CONFIG),
    ("head_guidance", HeadGuidance, replace(CONFIG, cfg_scale=1.0)),
    ("solver", Solver, CONFIG),
    ("fts", Selector, CONFIG),
]


def spiral(enum: type[Member]) -> Member:
    """A member that was added to an enum, and nowhere else."""
    member = object.__new__(enum)
    member._name_ = member._value_ = "spiral"
    return member


def members(name: str, enum: type[Enum]) -> list[Enum]:
    """Those that may be chosen: an order of stages is none inside a stage."""
    return [member for member in enum if (name, member) != ("stage_order", Order.gtr)]


@torch.no_grad()
def sampled(model: DCAR, config: SamplingConfig) -> Tensor:
    """Indices and residuals (b, n, 1 + c) of two prompts."""
    text = torch.randn(2, 8, 16, generator=keyed_generator(99))
    generators = [keyed_generator(0, number) for number in range(2)]
    indices, hidden = sample_indices(
        model.generator, text, torch.ones(2, 8), grid=(6, 6), config=config, generators=generators
    )
    assert model.head is not None
    residual = sample_residual(
        model.head, hidden, config=config, generators=generators, to_logits=model.generator.predict
    )
    return torch.cat([indices.flatten(1)[..., None].float(), residual], dim=2)


@pytest.mark.parametrize(("name", "enum", "config"), CHOICES, ids=[row[0] for row in CHOICES])
def test_every_member_samples_unlike_the_others(
    model: DCAR, name: str, enum: type[Enum], config: SamplingConfig
) -> None:
    results = {
        member: sampled(model, replace(config, **{name: member}))  # type: ignore[arg-type]
        for member in members(name, enum)
    }
    for one, other in combinations(results, 2):
        # `release` and `off` are one thing at a scale of 1, and `release` and `same` at any other.
        if {one, other} == {HeadGuidance.release, HeadGuidance.off}:
            assert torch.equal(results[one], results[other])
            doubled = replace(config, cfg_scale=2.0)
            first, second = (
                sampled(model, replace(doubled, head_guidance=each))  # type: ignore[arg-type]
                for each in (one, other)
            )
            assert not torch.equal(first, second)
        else:
            assert not torch.equal(results[one], results[other]), (one, other)


@pytest.mark.parametrize(("name", "enum", "config"), CHOICES, ids=[row[0] for row in CHOICES])
def test_a_member_that_nobody_serves_is_not_sampled(
    model: DCAR, name: str, enum: type[Enum], config: SamplingConfig
) -> None:
    with pytest.raises((AssertionError, KeyError), match="spiral"):
        sampled(model, replace(config, **{name: spiral(enum)}))  # type: ignore[arg-type]


def test_each_function_refuses_it_by_itself() -> None:
    """Not only the first one on the way."""
    rows, variates = torch.zeros(1, 4), torch.zeros(2)
    image = Image.new("RGB", (8, 4))
    group = Group(slice(None), solver_timesteps(Solver.ddim, 2))
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    rng = np.random.default_rng(0)
    for call in (
        lambda: mask_ratio(variates, spiral(Schedule)),
        lambda: masked_counts(4, 4, 2, spiral(Schedule)),
        lambda: training_mask(variates, torch.zeros(2, 4), spiral(Schedule)),
        lambda: step_scale(replace(CONFIG, guidance=spiral(Guidance)), 0),
        lambda: head_scale(replace(CONFIG, head_guidance=spiral(HeadGuidance))),
        lambda: select(spiral(Selector), torch.zeros(1, 2, 4), share=0.5, variates=variates),
        lambda: spiral(Solver).adds_noise,
        lambda: solver_timesteps(spiral(Solver), 2),
        lambda: solve(
            lambda x, *_: torch.cat([x, x], dim=1), rows, rows, groups=[group],
            solver=spiral(Solver),
        ),
        lambda: list_images("somewhere", spiral(DataKind)),
        lambda: build_norm(spiral(Norm), 8),
        lambda: build_block(Block.RES, 8, norm=Norm.RMS, act=spiral(Act)),
        lambda: build_block(spiral(Block), 8, norm=Norm.RMS, act=Act.SILU),
        lambda: fit_image(image, (4, 4), spiral(Fit)),
        lambda: cropping(spiral(Crop), (4, 4))(image, (4, 4)),
        lambda: eight_bits(torch.zeros(1, 3, 2, 2), spiral(MetricRounding)),
        lambda: ssim(pixels, pixels, spiral(Ssim)),
        lambda: shuffles(spiral(Resample)),
        lambda: spiral(Flip).views,
        lambda: _sample(spiral(Task), WORDS, rng),
        lambda: sample_any(spiral(HardTask), WORDS, rng),
        lambda: _run(None, None, [0], replace(ENCODING, backend=spiral(Backend)), None),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises((AssertionError, KeyError), match="spiral"):
            call()


def shape_of(scene: Scene | HardScene) -> list[object]:
    """What a scene is apart from its task and the names in it."""
    if isinstance(scene, HardScene):
        groups = [(g.count, bool(g.color), bool(g.size)) for g in scene.groups]
        return [groups, [relation[::2] for relation in scene.relations]]
    return [[(o.name == scene.objects[0].name, bool(o.color)) for o in scene.objects],
            bool(scene.relation)]  # fmt: skip


def test_every_task_makes_scenes_unlike_the_others() -> None:
    plain = {
        task: [shape_of(_sample(task, WORDS, np.random.default_rng(k))) for k in range(12)]
        for task in Task
    }
    hard = {
        task: [shape_of(sample_any(task, WORDS, np.random.default_rng(k))) for k in range(12)]
        for task in HardTask
    }
    for found in (plain, hard):
        for (one, shapes), (other, others) in combinations(found.items(), 2):
            assert shapes != others, (one, other)


def test_every_resampling_has_a_network_of_its_own() -> None:
    layouts = [replace(TOKENIZERS["tiny"], resample=by) for by in Resample]
    shapes = [sorted(tuple(p.shape) for p in Tokenizer(layout).parameters()) for layout in layouts]
    assert len({str(found) for found in shapes}) == len(Resample)


def test_every_flip_and_every_backend_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [flip.views for flip in Flip] == [1, 2]
    called = []
    monkeypatch.setattr(encode, "encode_shards", lambda *_: called.append("here"))
    for module in ("ray_workers.run_on_ray", "workers.run_workers"):
        fake = ModuleType("fake")
        setattr(fake, module.partition(".")[2], lambda *_, m=module, **__: called.append(m))
        monkeypatch.setitem(sys.modules, f"dcht.latents.{module.partition('.')[0]}", fake)
    for backend in Backend:
        for workers in (1, 2):
            settings = replace(ENCODING, backend=backend, workers=workers)
            _run(None, None, [0], settings, None)  # type: ignore[arg-type]
    assert called == [
        "here", "workers.run_workers", "ray_workers.run_on_ray", "ray_workers.run_on_ray",
    ]  # fmt: skip


def test_every_rounding_gives_other_pixels(pipe: TextToImage) -> None:
    images = []
    for rounding in Rounding:
        pipe.rounding = rounding
        images.append(np.asarray(pipe("a dog", num_steps=2).images[0]).astype(int))
    nearest, down = images
    assert 0 < (nearest - down).mean() < 1 and ((nearest - down) <= 1).all()
    pipe.rounding = spiral(Rounding)
    with pytest.raises(KeyError, match="spiral"):
        pipe("a dog", num_steps=2)

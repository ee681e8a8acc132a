"""Steps of DDPM: as many as are good, and what is offered instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from dcar.config import SamplingConfig, Solver
from dcar.pipeline import TextToImage
from dcar.pipeline.settings import resolve, seed_of
from dcht.errors import UsageError

OWN = SamplingConfig()


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_too_few_steps_of_ddpm_are_refused_and_dpmpp_is_named(steps: int) -> None:
    with pytest.raises(UsageError, match=rf"num_diffusion_steps is {steps}; .* solver dpmpp"):
        resolve(OWN, {"num_diffusion_steps": steps})
    with pytest.raises(UsageError, match=r"DPM-Solver\+\+"):
        resolve(OWN, {"preset": "gtr-8", "solver": "ddpm", "num_diffusion_steps": steps})
    found = resolve(OWN, {"num_diffusion_steps": steps, "solver": "dpmpp"})
    assert (found.num_diffusion_steps, found.solver) == (steps, Solver.dpmpp)


def test_the_short_schedule_counts_too() -> None:
    """FTS gives most positions the short one: it is what is noise."""
    with pytest.raises(UsageError, match="fts_steps is 4; solver ddpm needs 8"):
        resolve(OWN, {"fts": "norm", "fts_steps": 4})
    assert resolve(OWN, {"fts": "norm"}).fts_steps == 8
    assert resolve(OWN, {"fts_steps": 4}).fts_steps == 4, "without fts nothing takes it"


def test_enough_steps_and_a_checkpoints_own_are_taken() -> None:
    for steps in (8, 20, 1000):
        assert resolve(OWN, {"num_diffusion_steps": steps}).num_diffusion_steps == steps
    few = replace(OWN, num_diffusion_steps=4)
    assert resolve(few, {"num_steps": 3}).num_diffusion_steps == 4
    with pytest.raises(UsageError, match="DPM-Solver"):
        resolve(replace(few, solver=Solver.dpmpp, head_temperature=1.0), {"solver": "ddpm"})


def test_who_measures_few_steps_may_have_them() -> None:
    found = resolve(OWN, {"num_diffusion_steps": 2}, any_steps=True)
    assert (found.num_diffusion_steps, found.solver) == (2, Solver.ddpm)


def test_diffusers_names_are_ours() -> None:
    for scale, expected in ((5.5, 4.5), (1.0, 0.0), (0.0, 0.0), (7, 6.0)):
        found = resolve(OWN, {"guidance_scale": scale, "num_inference_steps": 7})
        assert (found.cfg_scale, found.num_steps) == (expected, 7)
    assert resolve(OWN, {"preset": "gtr-8", "guidance_scale": 3.0}).cfg_scale == 2.0
    with pytest.raises(UsageError, match="guidance_scale is diffusers' name of cfg_scale: give"):
        resolve(OWN, {"guidance_scale": 5.5, "cfg_scale": 4.5})
    with pytest.raises(UsageError, match="num_inference_steps is diffusers' name of num_steps"):
        resolve(OWN, {"num_inference_steps": 12, "num_steps": 12})


def test_a_generator_stands_for_its_seed_and_moves_on() -> None:
    made = torch.Generator().manual_seed(7)
    assert seed_of(None, made) == 7
    second, third = seed_of(None, made), seed_of(None, made)
    assert len({7, second, third}) == 3, "each use moves it on"
    again = torch.Generator().manual_seed(7)
    assert [seed_of(None, again) for _ in range(3)] == [7, second, third]
    drawn = torch.Generator().manual_seed(7)
    torch.rand(3, generator=drawn)
    assert seed_of(None, drawn) != 7
    assert (seed_of(None, None), seed_of(5, None)) == (0, 5)
    with pytest.raises(UsageError, match="generator is diffusers' name of seed"):
        seed_of(0, made)
    with pytest.raises(UsageError, match=r"generator is a list; give one torch\.Generator"):
        seed_of(None, [made])  # type: ignore[arg-type]


def test_a_call_takes_them(pipe: TextToImage) -> None:
    ours = pipe("a red apple", num_steps=2, cfg_scale=2.0, seed=7)
    theirs = pipe(
        "a red apple",
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(7),
    )
    assert theirs.images[0].tobytes() == ours.images[0].tobytes()
    assert (theirs.seed, theirs.settings) == (ours.seed, ours.settings)
    *_, last = pipe.stream(
        "a red apple",
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(7),
    )
    assert last.images[0].tobytes() == ours.images[0].tobytes()
    edited = pipe.edit(
        ours.images[0],
        None,
        "a blue car",
        strength=0.5,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
    )
    assert edited.seed == 3


def test_what_is_none_or_no_text_is_one_line(pipe: TextToImage) -> None:
    """None stands for a checkpoint's own where a setting may be absent (`fts`), and only there."""
    assert pipe.settings(fts=None).fts is None
    for name in ("solver", "order", "schedule", "guidance"):
        with pytest.raises(UsageError, match=f"{name} None is not known; use "):
            nothing: dict[str, Any] = {name: None}
            pipe("a red apple", **nothing)
    odd: list[Any] = [None, 7, b"a red apple"]
    for prompt in odd:
        with pytest.raises(UsageError, match="give text"):
            pipe(prompt)
    for prompts in (None, "a red apple"):
        with pytest.raises(UsageError, match="give a list of texts"):
            pipe.screen(prompts)  # type: ignore[arg-type]
    for call in (pipe, pipe.stream):
        with pytest.raises(UsageError, match="nothing to generate: give a prompt"):
            call([])


ODD = [
    ({"logit_annealing": "false"}, "logit_annealing is 'false'; expected True or False"),
    ({"extra_pass": None}, "extra_pass is None; expected True or False"),
    ({"guidance_scale": None}, "cfg_scale is None, which is not a number"),
    ({"guidance_scale": "2"}, "cfg_scale is '2', which is not a number"),
    ({"interval_low": None}, "guidance interval None to"),
    ({"preset": []}, r"preset \[\] is not known; use "),
    ({"seed": "7"}, "seed is '7', which is not a whole number"),
    ({"seed": 1.5}, "seed is 1.5, which is not a whole number"),
    ({"height": "64"}, "height is '64', which is not a whole number"),
    ({"width": 64.0}, "width is 64.0, which is not a whole number"),
    ({"num_images": None}, "num_images is None, which is not a whole number"),
    ({"batch_size": 2.0}, "batch_size is 2.0, which is not a whole number"),
    ({"first_index": True}, "first_index is True, which is not a whole number"),
]


@pytest.mark.parametrize(("options", "message"), ODD)
def test_a_value_of_another_kind_is_one_line(
    pipe: TextToImage, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pipe("a red apple", **options)


def test_an_edit_of_nothing_or_by_no_number_is_one_line(pipe: TextToImage) -> None:
    image: Any = Image.new("RGB", (64, 64))
    nothing: Any = None
    with pytest.raises(UsageError, match="nothing to edit"):
        pipe.edit([], [], [])
    with pytest.raises(UsageError, match="strength is None"):
        pipe.edit(image, None, "a dog", strength=nothing)
    with pytest.raises(UsageError, match="left is None, which is not a whole number"):
        pipe.outpaint(image, "a dog", left=nothing)

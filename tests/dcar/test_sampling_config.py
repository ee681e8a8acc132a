from dataclasses import replace
from typing import Any

import pytest

from dcar.config import (
    SAMPLING_PRESETS,
    Guidance,
    HeadGuidance,
    Order,
    SamplingConfig,
    Schedule,
    Selector,
    Solver,
    with_preset,
)
from dcar.pipeline.settings import resolve
from dcht import UsageError
from dcht.checkpoint import from_dict, to_dict

OLD = {
    "num_steps": 16,
    "cfg_scale": 0.5,
    "temperature": 0.2,
    "num_diffusion_steps": 20,
    "order": "confidence",
    "schedule": "cosine",
    "logit_annealing": False,
}
"""The settings in the `config.json` of a checkpoint from before there were more of them."""


def test_an_old_checkpoint_means_what_it_meant() -> None:
    found = from_dict(SamplingConfig, OLD, "config.json")
    assert to_dict(found).items() >= OLD.items()
    assert found.guidance is Guidance.constant and found.solver is Solver.ddpm
    assert found.final_temperature == 0 and found.confidence_temperature is None
    assert found.fts is None and not found.extra_pass


@pytest.mark.parametrize("name", SAMPLING_PRESETS)
def test_presets_survive_json(name: str) -> None:
    config = with_preset(replace(SamplingConfig(), stage_steps=[3, 1]), name)
    assert from_dict(SamplingConfig, to_dict(config), name) == config


def test_paper_and_release_set_everything() -> None:
    odd = SamplingConfig(
        num_steps=3, cfg_scale=1, temperature=7, order=Order.halton, extra_pass=True,
        solver=Solver.ddim, guidance=Guidance.linear,
    )  # fmt: skip
    assert with_preset(odd, "paper") == SamplingConfig()
    release = with_preset(odd, "release")
    paper = to_dict(SamplingConfig())
    assert {k: v for k, v in to_dict(release).items() if paper[k] != v} == {
        "temperature": 1.5,
        "logit_annealing": True,
        "num_diffusion_steps": 32,
        "head_guidance": HeadGuidance.release.value,
    }


@pytest.mark.parametrize(("name", "steps"), [("gtr-8", 8), ("gtr-6", 6)])
def test_gtr_presets_keep_what_was_chosen_for_the_checkpoint(name: str, steps: int) -> None:
    checkpoint = SamplingConfig(
        cfg_scale=0.5, temperature=0.2, schedule=Schedule.cosine, head_temperature=0.0,
        num_diffusion_steps=17, fts=Selector.norm,
    )  # fmt: skip
    found = with_preset(checkpoint, name)
    assert (found.order, found.num_steps, found.schedule) == (Order.gtr, steps, Schedule.linear)
    same = replace(found, order=checkpoint.order, num_steps=12, schedule=Schedule.cosine)
    assert same == checkpoint


def test_a_solver_without_noise_has_no_use_for_the_checkpoint_s_factor() -> None:
    checkpoint = SamplingConfig(head_temperature=0.5)
    assert resolve(checkpoint, {"solver": "dpmpp"}).head_temperature == 1
    assert resolve(checkpoint, {"num_steps": 3}).head_temperature == 0.5
    assert resolve(checkpoint, {"solver": "ddpm"}).head_temperature == 0.5
    with pytest.raises(UsageError, match="dpmpp adds no noise"):
        resolve(checkpoint, {"solver": "dpmpp", "head_temperature": 0.5})


def test_a_preset_that_is_not_known() -> None:
    with pytest.raises(UsageError, match="preset 'fast' is not known; use paper, release, "):
        with_preset(SamplingConfig(), "fast")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0; expected 1 to 4,096"),
        ({"fts_steps": 0}, "fts_steps is 0"),
        ({"num_steps": 10**9}, "num_steps is 1000000000; expected 1 to 4,096"),
        ({"cfg_scale": float("nan")}, "cfg_scale is nan; expected 0 to 1,000"),
        ({"temperature": 1e308}, "temperature is 1e.308; expected 0 to 1,000"),
        ({"confidence_temperature": -1.0}, "confidence_temperature is -1.0; expected 0 to 1,000"),
        ({"final_temperature": -0.5}, "final_temperature is -0.5"),
        ({"interval_low": 0.4}, "guidance interval 0.4 to 0.35 is not within 0..1"),
        ({"interval_high": 1.5}, "guidance interval 0.15 to 1.5"),
        ({"num_diffusion_steps": 1001}, "is 1001; solver ddpm takes at most 1000"),
        (
            {"num_diffusion_steps": 101, "solver": Solver.dpmpp},
            "is 101; solver dpmpp takes at most 100",
        ),
        ({"head_temperature": 0.9, "solver": Solver.ddim}, "but ddim adds no noise"),
        ({"stage_order": Order.gtr}, "stage_order gtr is not an order inside a stage"),
        ({"order": Order.gtr, "stage_steps": [8, 3]}, r"\[8, 3\] are not 12 steps"),
        ({"order": Order.gtr, "stage_steps": [12, 0]}, r"\[12, 0\] are not 12 steps"),
        ({"order": Order.gtr, "stage_steps": []}, r"\[\] are not 12 steps"),
        ({"fts_share": 1.5}, "fts_share is 1.5; expected 0 to 1"),
        (
            {"fts": "norm", "num_diffusion_steps": 4},
            "fts_steps 8 is more than num_diffusion_steps 4",
        ),
    ],
)
def test_what_no_sampler_can_honor_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SamplingConfig(**settings)
    with pytest.raises(UsageError, match=message):
        replace(SamplingConfig(), **settings)

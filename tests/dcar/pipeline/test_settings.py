"""Steps of DDPM: as many as are good, and what is offered instead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcar.config import SamplingConfig, Solver
from dcar.pipeline.settings import resolve
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

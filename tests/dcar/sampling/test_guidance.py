import pytest
import torch

from dcar import SamplingConfig
from dcar.config import Guidance, HeadGuidance
from dcar.modules.diffusion_head import guide
from dcar.sampling.guidance import head_scale, last_step_scale, step_scale


def scales(config: SamplingConfig) -> list[float]:
    return [step_scale(config, step) for step in range(config.num_steps)]


def test_constant_linear_and_interval() -> None:
    assert scales(SamplingConfig(num_steps=3, cfg_scale=4.5)) == [4.5] * 3
    linear = SamplingConfig(num_steps=4, cfg_scale=2.0, guidance=Guidance.linear)
    assert scales(linear) == [0.0, 0.5, 1.0, 1.5]
    # eMIGM at 512 px: a fifth of the steps, near the end.
    interval = SamplingConfig(num_steps=20, cfg_scale=2.0, guidance=Guidance.interval)
    assert [step for step, scale in enumerate(scales(interval)) if scale] == [13, 14, 15, 16, 17]
    everywhere = SamplingConfig(
        num_steps=20, guidance=Guidance.interval, interval_low=0, interval_high=1
    )
    assert scales(everywhere) == [4.5] * 20


@pytest.mark.parametrize("guidance", Guidance)
def test_scale_0_is_off_everywhere(guidance: Guidance) -> None:
    config = SamplingConfig(cfg_scale=0.0, guidance=guidance)
    assert not any(scales(config)) and head_scale(config) == 0


def test_the_head_is_guided_where_the_last_step_was() -> None:
    for config, expected in (
        (SamplingConfig(cfg_scale=2), 2),
        (SamplingConfig(cfg_scale=2, head_guidance=HeadGuidance.off), 0),
        (SamplingConfig(cfg_scale=2, guidance=Guidance.linear), 2),
        (SamplingConfig(cfg_scale=2, guidance=Guidance.linear, num_steps=1), 0),
        (SamplingConfig(cfg_scale=2, guidance=Guidance.interval), 0),
        (SamplingConfig(cfg_scale=2, guidance=Guidance.interval, interval_low=0), 2),
    ):
        assert head_scale(config) == expected
        assert last_step_scale(config) or head_scale(config) == 0


def test_the_release_reads_a_scale_of_1_as_no_guidance_of_the_head() -> None:
    for scale, expected in ((0.0, 0.0), (0.5, 0.5), (1.0, 0.0), (4.5, 4.5)):
        config = SamplingConfig(cfg_scale=scale, head_guidance=HeadGuidance.release)
        assert head_scale(config) == expected
        assert step_scale(config, 0) == scale


def test_both_conventions() -> None:
    conditional, unconditional = torch.tensor([3.0, -1.0]), torch.tensor([1.0, 1.0])
    ours = guide(conditional, unconditional, 4.5)
    # unconditional + w (conditional - unconditional), with w = s + 1
    assert torch.equal(ours, unconditional + 5.5 * (conditional - unconditional))

import subprocess
import sys

import pytest

from dcar.config import (
    PRESETS,
    DCARConfig,
    GeneratorConfig,
    HeadConfig,
    JointTextConfig,
    SamplingConfig,
    TextConfig,
)
from dcht import UsageError
from dcht.checkpoint import from_dict, to_dict


def test_paper_preset_is_table_8() -> None:
    generator = PRESETS["dcar_671m"].generator
    assert (generator.depth, generator.width, generator.num_heads) == (28, 1152, 16)
    assert (generator.codebook_size, generator.cond_dropout) == (16384, 0.1)
    assert generator.attention_dropout == 0.1 and not generator.qk_norm
    sampling = SamplingConfig()
    assert (sampling.num_steps, sampling.num_diffusion_steps) == (12, 20)
    assert (sampling.cfg_scale, sampling.temperature) == (4.5, 4.5)


def test_release_preset_differs_where_the_release_does() -> None:
    paper, release = to_dict(PRESETS["dcar_671m"]), to_dict(PRESETS["dc_ar_512"])
    assert release["generator"] == paper["generator"] | {"qk_norm": True, "text_length": 300}
    assert release["head"] == paper["head"] | {"clip": 1.0}
    assert release["text"] == paper["text"] | {"sees_mask": False}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    preset = PRESETS[name]
    assert from_dict(DCARConfig, to_dict(preset), name) == preset


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(UsageError, match="width 100 is not a multiple of num_heads 16"):
        GeneratorConfig(width=100)
    with pytest.raises(UsageError, match="condition_dim 7"):
        DCARConfig(head=HeadConfig(condition_dim=7))
    with pytest.raises(UsageError, match="needs one of name"):
        TextConfig(joint=JointTextConfig())
    with pytest.raises(UsageError, match="num_steps is 0"):
        SamplingConfig(num_steps=0)
    with pytest.raises(UsageError, match="cfg_scale is -1"):
        SamplingConfig(cfg_scale=-1)


def test_config_and_package_import_neither_torch_nor_hydra() -> None:
    code = (
        "import sys, dcar, dcar.cli, dcar.train_config; "
        "print({'torch', 'hydra', 'transformers'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"

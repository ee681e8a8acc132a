from dataclasses import replace
from importlib import resources

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from dcht import PRESETS
from dcht.conf import register
from dcht.launch import experiment_names
from dcht.train_config import Stage, Strategy, TrainConfig


def composed(*words: str) -> TrainConfig:
    register()
    with initialize_config_module("dcht.conf", version_base="1.3"):
        settings = compose("train", [*words, "data.root=images", "out=run"])
        config = OmegaConf.to_object(settings)
    assert isinstance(config, TrainConfig)
    return config


def test_without_an_experiment_the_paper_composes():
    config = composed()
    assert config.tokenizer == PRESETS["f32c32"]
    assert config == TrainConfig(
        out="run", tokenizer=PRESETS["f32c32"], data=type(config.data)(root="images")
    )


@pytest.mark.parametrize("name", experiment_names("dcht"))
def test_every_experiment_composes_and_says_what_it_is(name):
    config = composed(f"+experiment={name}")
    assert config.tokenizer in PRESETS.values()
    text = (resources.files("dcht") / "conf" / "experiment" / f"{name}.yaml").read_text()
    assert text.startswith(f"# @package _global_\n# dcht-train +experiment={name} ")
    for word in ("Hardware:", "Time:", "Expected:", "Run:"):
        assert word in text


def test_imagenet256_is_the_paper():
    assert composed("+experiment=imagenet256") == composed()


def test_table_5_at_the_papers_scale_and_at_that_of_another_experiment():
    for strategy in (Strategy.no_warmup, Strategy.alternate_all_trainable):
        paper = composed(f"+experiment={strategy.value}")
        assert paper == replace(composed(), strategy=strategy)
        assert sum(stage.num_steps(1280, 128) for stage in paper.plan()) == 600  # 60 epochs
        small = composed(f"+experiment=[table5,{strategy.value}]")
        assert small == replace(composed("+experiment=table5"), strategy=strategy)
        assert sum(stage.num_steps(1280, 128) for stage in small.plan()) == 1000


def test_the_command_line_wins_and_typos_are_loud():
    config = composed("+experiment=tiny", "stages=[alternate_finetune]", "optimizer.lr=0.5")
    assert config.stages == [Stage.alternate_finetune]
    assert config.optimizer.lr == 0.5
    for typo in ("optimizer.rate=1", "stages=[continuous]", "tokenizer.latent_chanels=8"):
        with pytest.raises(ConfigCompositionException):
            composed("+experiment=tiny", typo)

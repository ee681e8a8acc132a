from importlib import resources
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from dcar.conf import register
from dcar.config import PRESETS, Order
from dcar.train_config import DataKind, TrainConfig
from dcht import PRESETS as TOKENIZERS

FOLDER = Path(str(resources.files("dcar") / "conf"))
EXPERIMENTS = sorted(path.stem for path in (FOLDER / "experiment").glob("*.yaml"))
GIVEN = ["data.root=somewhere", "out=runs/x"]


@pytest.fixture(autouse=True)
def hydra():  # type: ignore[no-untyped-def]
    register()
    GlobalHydra.instance().clear()
    with initialize_config_module("dcar.conf", version_base="1.3"):
        yield


def composed(*overrides: str) -> TrainConfig:
    config = OmegaConf.to_object(compose("train", overrides=list(overrides)))
    assert isinstance(config, TrainConfig)
    return config


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_says_what_it_is(name: str) -> None:
    extra = ["init_from=x"] if name == "finetune512" else []
    config = composed(f"+experiment={name}", *GIVEN, *extra)
    assert config.model.generator.codebook_size == config.tokenizer.codebook_size
    assert config.model.head.latent_channels == config.tokenizer.latent_channels
    assert config.prompts
    header = (FOLDER / "experiment" / f"{name}.yaml").read_text().split("defaults:")[0]
    for word in (f"dcar-train +experiment={name}", "Hardware:", "Expected:"):
        assert word in header, word
    assert "ime:" in header and ("Run:" in header or "Not run." in header)


def test_pretrain256_is_the_paper() -> None:
    config = composed("+experiment=pretrain256", *GIVEN)
    assert config.model == PRESETS["dcar_671m"] and config.tokenizer == TOKENIZERS["f32c32"]
    assert (config.steps, config.batch_size) == (200_000, 1024)
    optimizer = config.optimizer
    assert (optimizer.lr, optimizer.betas, optimizer.weight_decay) == (1e-4, [0.9, 0.96], 0.03)
    assert (config.loss.cross_entropy, config.loss.diffusion) == (1.0, 1.0)


def test_finetune512_will_not_train_from_scratch_by_accident() -> None:
    with pytest.raises(MissingMandatoryValue, match="init_from"):
        composed("+experiment=finetune512", *GIVEN)
    assert composed("+experiment=finetune512", "init_from=runs/a", *GIVEN).steps == 50_000


def test_groups_and_values_can_be_chosen() -> None:
    config = composed(
        "+experiment=scenes256", *GIVEN, "data=folder", "data.size=128", "model=tiny",
        "tokenizer=tiny", "model.discrete_only=true", "sampling.order=random",
    )  # fmt: skip
    assert config.data.kind is DataKind.folder and config.data.size == 128
    assert config.model.generator.depth == PRESETS["tiny"].generator.depth
    assert config.model.discrete_only and config.sampling.order is Order.random


@pytest.mark.parametrize("typo", ["model.generator.depht=3", "stepz=3", "sampling.order=spiral"])
def test_typos_are_loud(typo: str) -> None:
    with pytest.raises(ConfigCompositionException):
        compose("train", overrides=["+experiment=tiny", typo])

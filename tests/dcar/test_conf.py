from dataclasses import replace
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
    config = composed(f"+experiment={name}", *GIVEN, "init_from=x")
    assert config.model.generator.codebook_size == config.tokenizer.codebook_size
    assert config.model.head.latent_channels == config.tokenizer.latent_channels
    assert config.prompts or config.model.text.classes  # which there are, the data says
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


@pytest.mark.parametrize(("name", "steps"), [("finetune512", 50_000), ("scenes512", 3_800)])
def test_a_fine_tune_will_not_train_from_scratch_by_accident(name: str, steps: int) -> None:
    with pytest.raises(MissingMandatoryValue, match="init_from"):
        composed(f"+experiment={name}", *GIVEN)
    assert composed(f"+experiment={name}", "init_from=runs/a", *GIVEN).steps == steps


def test_the_papers_comparisons_differ_from_the_paper_in_what_they_compare() -> None:
    paper = composed("+experiment=pretrain256", *GIVEN)
    baseline = composed("+experiment=discrete_only256", *GIVEN)
    assert replace(baseline, model=paper.model) == paper
    assert replace(baseline.model, discrete_only=False) == paper.model
    finetune = composed("+experiment=finetune512", "init_from=x", *GIVEN)
    scratch = composed("+experiment=scratch512", *GIVEN)
    assert finetune.data.size == scratch.data.size == 512  # what plan=true counts
    assert scratch.init_from == "scratch" and scratch.steps == paper.steps + finetune.steps
    same = replace(scratch, init_from="x", steps=finetune.steps, optimizer=finetune.optimizer)
    assert same == finetune


def test_slurm_starts_a_process_a_gpu() -> None:
    config = compose(
        "train",
        overrides=["+experiment=pretrain256", *GIVEN, "hydra/launcher=submitit_slurm",
                   "hydra.launcher.tasks_per_node=8", "hydra.launcher.gpus_per_node=8"],
        return_hydra_config=True,
    )  # fmt: skip
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.tasks_per_node, launcher.gpus_per_node) == (8, 8)
    assert config.hydra.sweep.dir == "runs/launched"


@pytest.mark.parametrize("kind", list(DataKind))
def test_every_kind_of_data_composes(kind: DataKind) -> None:
    source = "{kind: latents, root: other, weight: 1}"
    # Of latents the size was decided when they were encoded.
    buckets = ["data.buckets=[256x256,320x192]"] if kind is not DataKind.latents else []
    config = composed(
        f"data={kind.value}", "tokenizer=small", "model=small", "init_from=scratch", *GIVEN,
        "data.weight=3", f"data.mixture=[{source}]", *buckets,
    )  # fmt: skip
    assert config.data.kind is kind and config.data.root == "somewhere"
    assert [other.root for other in config.data.mixture] == ["other"]
    assert config.data.mixture[0].kind is DataKind.latents
    assert (FOLDER / "data" / f"{kind.value}.yaml").is_file()


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

"""The committed reference curves are those of the experiments as they are written today."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import dcar.conf
import dcht.conf
from dcar.train.start import layouts_of
from dcht.checkpoint import to_dict
from dcht.engine.reference import FREE, load_references
from dcht.engine.run_folder import differences
from dcht.launch import experiment_names, follow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TOO_LARGE = {
    "dcht": {"imagenet256"},
    "dcar": {
        "pretrain256", "finetune512", "scratch512", "discrete_only256", "imagenet_class256",
    },
}  # fmt: skip
"""Experiments of the paper's size."""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("reference_curves").RUNS


def test_every_experiment_that_a_cpu_can_run_has_one(runs: Any) -> None:
    for package in ("dcht", "dcar"):
        recorded = [run.experiment for run in runs if run.package == package]
        assert sorted(recorded) == sorted(one.experiment for one in load_references(package))
        names = {name for one in recorded for name in one.strip("[]").split(",")}
        assert names == {*experiment_names(package)} - TOO_LARGE[package]


def test_each_was_recorded_with_the_settings_that_its_experiment_has(runs: Any) -> None:
    for package, conf in (("dcht", dcht.conf), ("dcar", dcar.conf)):
        recorded = {one.experiment: one.settings for one in load_references(package)}
        conf.register()
        GlobalHydra.instance().clear()
        with initialize_config_module(f"{package}.conf", version_base="1.3"):
            for run in (run for run in runs if run.package == package):
                words = [f"+experiment={run.experiment}", *run.words, "out=x"]
                settings = compose("train", overrides=words)
                if package == "dcar" and "init_from=bundled" in words:
                    follow(settings, layouts_of(settings), words)
                now = to_dict(OmegaConf.to_object(settings))
                assert not differences(recorded[run.experiment], now, FREE), run

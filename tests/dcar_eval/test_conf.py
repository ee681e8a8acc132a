"""One composition holds all three packages' settings."""

import pytest
from hydra import compose, initialize
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

import dcar.config
import dcht
from dcar_eval.conf import register
from dcar_eval.metrics.protocol import PROTOCOLS, Crop


def composed(*words: str) -> DictConfig:
    register()
    with initialize(config_path=None, version_base="1.3"):
        return compose(overrides=["+tokenizer=tiny", "+model=tiny", "+protocol=dcar", *words])


def test_tokenizer_generator_and_protocol_compose() -> None:
    settings = composed()
    assert OmegaConf.to_object(settings.tokenizer) == dcht.PRESETS["tiny"]
    assert OmegaConf.to_object(settings.protocol) == PROTOCOLS["dcar"]
    expected = dcar.config.PRESETS["tiny"].generator
    assert OmegaConf.to_object(settings.model.generator) == expected


def test_the_command_line_wins_and_typos_are_loud() -> None:
    changed = OmegaConf.to_object(composed("protocol.crop=adm").protocol)
    assert changed.crop is Crop.adm  # type: ignore[union-attr]
    assert changed.sha256 != PROTOCOLS["dcar"].sha256  # type: ignore[union-attr]
    with pytest.raises(ConfigCompositionException):
        composed("protocol.corp=adm")

"""Hydra's view of the settings: presets and schema in the ConfigStore, deviations as YAML here."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from dcht.config import LIGHT_PRESETS, PRESETS
from dcht.train_config import TrainConfig


def register() -> None:
    """Store presets as groups `tokenizer` and `light`, and the run's schema as `train_schema`."""
    store = ConfigStore.instance()
    for name, preset in PRESETS.items():
        store.store(group="tokenizer", name=name, node=preset)
    for name, layout in LIGHT_PRESETS.items():
        store.store(group="light", name=name, node=layout)
    store.store(name="train_schema", node=TrainConfig)

"""Hydra's view of the settings: presets and schema in the ConfigStore, deviations as YAML here.

Hydra is imported when `register` is called: listing the experiments for `--help` needs none of it.
"""

from __future__ import annotations


def register() -> None:
    """Store dcht's groups, the presets as group `model`, and the run's schema."""
    from hydra.core.config_store import ConfigStore

    import dcht.conf
    from dcar.config import PRESETS
    from dcar.train_config import TrainConfig

    dcht.conf.register()
    store = ConfigStore.instance()
    for name, preset in PRESETS.items():
        store.store(group="model", name=name, node=preset)
    store.store(name="dcar_train_schema", node=TrainConfig)

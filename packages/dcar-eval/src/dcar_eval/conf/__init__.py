"""Hydra's view of the settings: the named protocols beside the groups of the other two packages."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

import dcar.conf
from dcar_eval.metrics.protocol import PROTOCOLS


def register() -> None:
    """Store dcht's and dcar's groups, and the protocols as group `protocol`."""
    dcar.conf.register()
    store = ConfigStore.instance()
    for name, preset in PROTOCOLS.items():
        store.store(group="protocol", name=name, node=preset)

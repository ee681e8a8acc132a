"""`dcar-train`: Hydra composes the settings, `dcar.train` gets a plain dataclass."""

from __future__ import annotations

from typing import Any


def train_main() -> None:
    """Train a generator: dcar-train +experiment=NAME key=value ..."""
    from dcar.conf import register
    from dcht.launch import launch

    def task(config: Any) -> int:
        from dcar.train import train

        return train(config)

    launch("dcar.conf", register, task)

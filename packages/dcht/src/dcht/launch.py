"""The entry point `dcht-train`: Hydra composes the settings, `dcht.train` gets a plain dataclass.

Torch is imported when a run starts, so that `--help` and `--cfg job` stay fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from dcht.command import USAGE, run


def launch(conf: str, register: Callable[[], None], task: Callable[[Any], int]) -> NoReturn:
    """Compose `train.yaml` of package `conf` with the command line, run `task`, exit.

    `experiment=x` may be written without its plus. Settings that do not compose exit 2.
    """
    import hydra
    from omegaconf import DictConfig, OmegaConf

    register()
    sys.argv[1:] = [f"+{word}" if word.startswith("experiment=") else word for word in sys.argv[1:]]
    started = False

    @hydra.main(version_base="1.3", config_path=f"pkg://{conf}", config_name="train")
    def main(config: DictConfig) -> None:
        nonlocal started
        started = True
        run(lambda: task(OmegaConf.to_object(config)))

    try:
        main()
    except SystemExit as stop:
        sys.exit(USAGE if stop.code == 1 and not started else stop.code)
    sys.exit(0)


def train_main() -> None:
    """Train a tokenizer: dcht-train +experiment=NAME key=value ..."""
    try:
        from dcht.conf import register
    except ModuleNotFoundError as error:
        print(
            f"error: dcht-train needs {error.name}, which is in an extra: "
            "pip install 'dcht[train]'",
            file=sys.stderr,
        )
        sys.exit(USAGE)

    def task(config: Any) -> int:
        from dcht.train import train

        return train(config)

    launch("dcht.conf", register, task)

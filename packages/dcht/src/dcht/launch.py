"""The entry point `dcht-train`: Hydra composes the settings, `dcht.train` gets a plain dataclass.

`--help` is answered without Hydra, which takes seconds to describe itself; torch is imported when a
run starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from typing import Any, NoReturn

from dcht.command import OK, USAGE, exit_code, ready_streams
from dcht.config import PRESETS
from dcht.errors import UsageError

HELP = """\
usage: dcht-train +experiment=NAME [KEY=VALUE ...]

Train a tokenizer through the three stages of DC-HT; the result is OUT/tokenizer.
The same command continues a run that was stopped.

examples:
  dcht-train +experiment=imagenet256 data.root=imagenet/train out=runs/imagenet256
  dcht-train +experiment=tiny data.root=pictures out=runs/tiny
  dcht-train +experiment=imagenet256 stages=[alternate_finetune] init_from=runs/a/tokenizer \\
      data.root=imagenet/train out=runs/b
  torchrun --nproc-per-node 8 -m dcht.launch +experiment=imagenet256 \\
      data.root=imagenet/train out=runs/imagenet256
  dcht-train -m hydra/launcher=submitit_slurm +experiment=table5 seed=0,1,2 \\
      data.root=scenes 'out=runs/seed-${{seed}}'

experiments (several: [a,b]): {experiments}
tokenizers (tokenizer=NAME): {tokenizers}

options:
  -h, --help              this text
  --cfg job --resolve     show every setting with its value, and do not run
  --hydra-help            what else the command line can do
"""


def launch(
    conf: str, *, help_text: str, register: Callable[[], None], task: Callable[[Any], int]
) -> NoReturn:
    """Compose `train.yaml` of package `conf` with the command line, run `task` on it, exit.

    `experiment=x` may be written without its plus. Settings that do not compose exit 2.
    """
    ready_streams()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text, end="")
        sys.exit(0)
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    register()
    sys.argv[1:] = [f"+{word}" if word.startswith("experiment=") else word for word in sys.argv[1:]]
    started, code = False, OK

    def composed(config: DictConfig) -> int:
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise UsageError(f"no value for {', '.join(missing)}; give each as NAME=VALUE")
        try:
            settings = OmegaConf.to_object(config)
        except OmegaConfBaseException as error:
            raise UsageError(str(error).splitlines()[0]) from None
        return task(settings)

    @hydra.main(version_base="1.3", config_path=f"pkg://{conf}", config_name="train")
    def main(config: DictConfig) -> None:
        nonlocal started, code
        started = True
        code = exit_code(lambda: composed(config))
        if code and HydraConfig.get().mode is RunMode.MULTIRUN:
            # Of a sweep's jobs, which may run elsewhere, Hydra passes on exceptions alone.
            raise RuntimeError(f"exit code {code}")

    try:
        main()
    except SystemExit as stop:
        # Hydra has printed what does not compose, and exits 1 as if the program had failed.
        sys.exit(USAGE if stop.code == 1 and not started else stop.code)
    sys.exit(code)


def experiment_names(package: str) -> list[str]:
    """The experiments that a package's `conf` folder holds, found without importing it."""
    folder = resources.files(package) / "conf" / "experiment"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())


def train_main() -> NoReturn:
    """`dcht-train`; exits 2 and names the extra where it is not installed."""
    if missing := [name for name in ("hydra", "tensorboard") if find_spec(name) is None]:
        print(
            f"error: dcht-train needs {missing[0]}, which is in an extra: "
            "pip install 'dcht[train]'",
            file=sys.stderr,
        )
        sys.exit(USAGE)

    def register() -> None:
        from dcht.conf import register

        register()

    def task(config: Any) -> int:
        from dcht.train import train

        return train(config)

    names = {
        "experiments": ", ".join(experiment_names("dcht")),
        "tokenizers": ", ".join(PRESETS),
    }
    launch("dcht.conf", help_text=HELP.format(**names), register=register, task=task)


if __name__ == "__main__":
    train_main()

"""`dcar-train`: Hydra composes the settings, `dcar.train` gets a plain dataclass."""

from __future__ import annotations

from typing import Any, NoReturn

from dcar.config import PRESETS

TRAIN_HELP = """\
usage: dcar-train +experiment=NAME [KEY=VALUE ...]

Train a generator on latents; the result is OUT/checkpoint.
The same command continues a run that was stopped.

examples:
  dcht encode pictures/ --out latents/
  dcar-train +experiment=scenes256 data.root=latents out=runs/scenes
  dcar-train +experiment=pretrain256 tokenizer_ckpt=TOKENIZER data.root=latents out=runs/256
  dcar-train +experiment=finetune512 init_from=runs/256/checkpoint tokenizer_ckpt=TOKENIZER \\
      data.root=latents512 out=runs/512

experiments: {experiments}
models (model=NAME): {models}
data (data=NAME): latents, folder

options:
  -h, --help              this text
  --cfg job --resolve     show every setting with its value, and do not run
  --hydra-help            what else the command line can do
"""


def train_main() -> NoReturn:
    """Entry point of `dcar-train`."""
    from dcht.launch import experiment_names, launch

    def register() -> None:
        from dcar.conf import register

        register()

    def task(config: Any) -> int:
        from dcar.train import train

        return train(config)

    names = {"experiments": ", ".join(experiment_names("dcar")), "models": ", ".join(PRESETS)}
    launch("dcar.conf", help_text=TRAIN_HELP.format(**names), register=register, task=task)

"""The entry points `dcar`, whose verbs are modules of `dcar.commands`, and `dcar-train`."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from typing import Any, NoReturn

from dcar.commands import app, convert, doctor, edit, export, generate, replay, train_export
from dcar.config import PRESETS
from dcht.commands.common import command_parser, run_verb
from dcht.engine.plan import Cluster

EXAMPLES = """examples:
  dcar generate "a photo of a red apple" --out apple.png     with the bundled checkpoint
  dcar generate "a red apple" "a blue car" --num-images 4 --out pictures/
  dcar generate --prompts prompts.txt --out sheet.png --grid
  dcar edit photo.png "a red apple" --mask mask.png --out new.png
  dcar edit photo.png "a red apple" --outpaint left=128 --out wide.png
  dcar replay apple.png --out again.png                      the same image, byte for byte
  dcar app --open                                            all of it in a browser
  dcar convert --from release pretrained_models/ --out dc-ar-512/
  dcar export --out generator/                               ONNX files (extra: dcht[onnx])
"""
VERBS = (generate, edit, replay, app, convert, export, doctor)

TRAIN_HELP = """\
usage: dcar-train +experiment=NAME [KEY=VALUE ...]
       dcar-train export RUN --out DIR

Train a generator on latents; the result is OUT/checkpoint.
The same command continues a run that was stopped. `export` publishes a run's result.

examples:
  dcht encode pictures/ --out latents/
  dcar-train +experiment=scenes256 data.root=latents out=runs/scenes
  dcar-train +experiment=pretrain256 tokenizer_ckpt=TOKENIZER data.root=latents out=runs/256
  dcar-train +experiment=finetune512 init_from=runs/256/checkpoint tokenizer_ckpt=TOKENIZER \\
      data.root=latents512 out=runs/512
  torchrun --nproc-per-node 8 --no-python dcar-train +experiment=pretrain256 ...
  dcar-train -m hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=8 \\
      hydra.launcher.gpus_per_node=8 +experiment=pretrain256 ...
  dcar-train export runs/256 --out published/

experiments: {experiments}
models (model=NAME): {models}
data (data=NAME): latents, folder, webdataset, imagenet, journeydb

options:
  -h, --help              this text
  plan=true               print what it would take on plan.gpus=8 of plan.gpu=a100, and do not run
  --cfg job --resolve     show every setting with its value, and do not run
  --hydra-help            what else the command line can do
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line of `dcar`."""
    parser = command_parser(
        "dcar",
        version=version("dcar"),
        description="DC-AR: text to image with a masked autoregressive generator.",
        examples=EXAMPLES,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    return parser


def main() -> NoReturn:
    """Entry point of `dcar`."""
    run_verb(build_parser())


def train_main() -> NoReturn:
    """Entry point of `dcar-train`."""
    if sys.argv[1:2] == ["export"]:
        parser = command_parser(
            "dcar-train",
            version=version("dcar"),
            description="Train a generator, or publish what a run has made.",
            examples=train_export.EXAMPLES,
        )
        train_export.add(parser.add_subparsers(required=True, metavar="VERB"))
        run_verb(parser)
    from dcht.launch import experiment_names, launch

    def register() -> None:
        from dcar.conf import register

        register()

    def task(config: Any) -> bool:
        from dcar.train import train

        return train(config)

    def plan(config: Any, cluster: Cluster) -> str:
        from dcar.train.plan import plan

        return plan(config, cluster)

    def presets(config: Any) -> dict[str, Any]:
        from dcar.train.start import layouts_of

        return layouts_of(config)

    names = {"experiments": ", ".join(experiment_names("dcar")), "models": ", ".join(PRESETS)}
    help_text = TRAIN_HELP.format(**names)
    launch(
        "dcar.conf", help_text=help_text, register=register, task=task, plan=plan, presets=presets
    )

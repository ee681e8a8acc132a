"""The command line of `dcar-eval`; each verb is a module of `dcar_eval.commands`."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from typing import NoReturn

from dcar_eval.commands import (
    fid,
    geneval,
    mjhq,
    profile,
    questions,
    reconstruction,
    report,
    scenes,
    scenes_eval,
    scenes_train,
    sweep,
)
from dcht.commands.common import command_parser, run_verb

EXAMPLES = """examples:
  dcar-eval reconstruction --images photos/ --out results/       the bundled tokenizer, both paths
  dcar-eval reconstruction --ckpt runs/tokenizer --images val/ --size 512 --path hybrid --out r512/
  dcar-eval stats val/ --size 512 --crop adm --out val512.npz
  dcar-eval fid val512.npz pictures/ --size 512 --crop adm
  dcar-eval mjhq --data MJHQ-30K --out results/mjhq/             30,000 images of 512 px
  dcar-eval geneval --images pictures/ --out results/geneval/    anyone's, 553 prompts by 4
  dcar-eval geneval --num-per-task 1 --smoke --out r/            offline: random networks
  dcar-eval geneval2 --prompts geneval2_data.jsonl --images pairs.csv --out results/geneval2/
  dcar-eval dpg --prompts dpg_bench.csv --images grids/ --grids --out results/dpg/
  npm install @lobehub/fluent-emoji-3d@1.1.0 emojibase-data@17.0.0
  dcar-eval scenes --sprites node_modules --out data/scenes --num 20000 --objects starter
  dcar-eval scenes --sprites node_modules --out data/held-out --num 1000 --split held-out --seed 1
  dcar-eval scenes-eval --out results/scenes/                    the bundled checkpoint
  dcar-eval scenes-eval --ckpt runs/gen/checkpoint --num-per-task 100 --seed 1 --out r/ --json
  dcar-eval scenes-eval --benchmark hard --list-prompts > prompts.txt       for anyone's model
  dcar-eval scenes-eval --benchmark hard --images pictures/ --out results/hard/
  dcar-eval scenes-train --sprites node_modules --out runs/recognizer
  dcar-eval profile --preset dcar_671m --protocol paper --out results/speed/
  dcar-eval sweep fig6 --out results/fig6/
  dcar-eval sweep num_steps=4,8,12 order=confidence,halton,gtr --out results/orders/
  dcar-eval report results/ --out results/report/
"""
VERBS = (
    reconstruction, fid, mjhq, geneval, questions, scenes, scenes_eval, scenes_train, profile,
    sweep, report,
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """The command line of `dcar-eval`."""
    parser = command_parser(
        "dcar-eval",
        version=version("dcar-eval"),
        description="Numbers that others can reproduce, for tokenizers and text-to-image models.",
        examples=EXAMPLES,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    return parser


def main() -> NoReturn:
    """Entry point of the console script."""
    run_verb(build_parser())

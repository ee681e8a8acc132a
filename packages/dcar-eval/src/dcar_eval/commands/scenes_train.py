"""`dcar-eval scenes-train`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from dcht.commands.common import INTERRUPTED, OK, add_common, positive


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("scenes-train", help="train the recognizer that judges scenes")
    verb.add_argument("--sprites", type=Path, required=True, help="folder with the npm packages")
    verb.add_argument(
        "--grammar", choices=("standard", "hard", "things"), default="standard",
        help="grammar of the scenes that it will judge; things: hundreds of things, each alone "
        "[standard]",
    )  # fmt: skip
    verb.add_argument(
        "--steps", type=positive, default=5000, metavar="N", help="training steps [5000]"
    )
    verb.add_argument(
        "--num-per-task", type=positive, default=500, metavar="N",
        help="new scenes of each task, on which it is measured at the end [500]",
    )  # fmt: skip
    verb.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="processes that draw scenes [1]"
    )
    add_common(
        verb, "seed", "batch_size", "out", "force", "resume",
        seed={"help": "of weights and images [0]"}, batch_size=32,
    )  # fmt: skip
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and measure."""
    from functools import partial

    from dcar_eval.hard import recognizing as hard
    from dcar_eval.scenes import ceiling, compositions
    from dcar_eval.scenes.recognizer import Recognizer
    from dcar_eval.scenes.recognizer_train import Training, train_recognizer
    from dcar_eval.scenes.world import SPRITE_LABELS
    from dcar_eval.things import recognizing as things
    from dcht.tokenizer import Tokenizer

    training = Training(
        classes=list(SPRITE_LABELS),
        seed=arguments.seed,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
    )
    measure, compose, start = ceiling.measure_ceiling, compositions.compose, None
    if arguments.grammar == "hard":
        start, sha256 = Recognizer.from_pretrained()
        training = replace(
            training,
            classes=list(hard.OBJECTS),
            side=hard.SIDE,
            neighbourhood=hard.NEIGHBORHOOD,
            ema_decay=hard.EMA_DECAY,
            started_from=sha256,
        )
        measure, compose = hard.measure_ceiling, hard.compose
    if arguments.grammar == "things":
        training = replace(
            training,
            classes=list(things.NAMES),
            side=things.SIDE,
            neighbourhood=things.NEIGHBORHOOD,
        )
        measure, compose = things.measure_ceiling, things.compose
    finished = train_recognizer(
        arguments.sprites,
        arguments.out,
        training=training,
        measure=partial(
            measure,
            sprites=arguments.sprites,
            num_per_task=arguments.num_per_task,
            seed=arguments.seed + 1,
            tokenizer=Tokenizer.from_pretrained(),
        ),
        measured_on={"num_per_task": arguments.num_per_task},
        compose=compose,
        start=start,
        workers=arguments.workers,
        force=arguments.force,
    )
    return OK if finished else INTERRUPTED

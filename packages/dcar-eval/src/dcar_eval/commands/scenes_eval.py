"""`dcar-eval scenes-eval`."""

from __future__ import annotations

import argparse
from typing import Any

from dcar.commands.drawing import CKPT, add_sampling, sampling_settings
from dcar_eval.commands.measuring import show
from dcht.command import OK, add_common, parse_size, pick_device, positive
from dcht.errors import UsageError


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("scenes-eval", help="held-out prompts of the scenes, judged offline")
    verb.add_argument(
        "--benchmark", choices=("standard", "hard"), default="standard",
        help="hard: groups, sizes, two relations, free places; fixed prompts, unseen and seen "
        "[standard]",
    )  # fmt: skip
    verb.add_argument(
        "--num-per-task", type=positive, default=40, metavar="N", help="prompts of a task [40]"
    )
    verb.add_argument(
        "--objects", metavar="NAMES",
        help="starter, wide, all, or names by commas [the thirty of wide, or fewer that the "
        "checkpoint's words tell]",
    )  # fmt: skip
    add_sampling(verb)
    size = {"default": None, "help": "side in pixels, a multiple of 32 [the checkpoint's]"}
    add_common(
        verb, "ckpt", "seed", "size", "batch_size", "device", "offline", "out", "force", "resume",
        "json", ckpt=CKPT, batch_size=8, size=size,
        seed={"help": "of prompts and noise [0]"},
    )  # fmt: skip
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw, judge, print the table."""
    from dcar_eval.scenes.things import parse_objects

    if arguments.objects and arguments.benchmark == "hard":
        raise UsageError("--objects is of the standard benchmark; the prompts of hard are fixed")
    objects = parse_objects(arguments.objects) if arguments.objects else None
    width, height = parse_size(arguments.size) if arguments.size else (None, None)
    if width != height:
        raise UsageError(f"scenes are square, not {width} x {height}; give --size N")

    from dcar.pipeline import TextToImage
    from dcar_eval.hard.evaluate import evaluate_hard, table
    from dcar_eval.scenes.evaluate import evaluate_scenes

    pipe = TextToImage.from_pretrained(arguments.ckpt).to(pick_device(arguments.device))
    shared: Any = {
        "num_per_task": arguments.num_per_task,
        "seed": arguments.seed,
        "size": width,
        "batch_size": arguments.batch_size,
        "force": arguments.force,
        "sampling": sampling_settings(arguments),
    }
    if arguments.benchmark == "hard":
        show(arguments, evaluate_hard(pipe, arguments.out, **shared), table)
    else:
        results = evaluate_scenes(pipe, arguments.out, objects=objects, **shared)
        show(arguments, results, _table)
    return OK


def _table(results: dict[str, Any]) -> str:
    from dcar_eval.results import text_table

    own = results["recognizer"]
    rows = [("overall", results["overall"], own["overall"])]
    rows += [(name, share, own["tasks"][name]) for name, share in results["tasks"].items()]
    lines = [(name, f"{share:.3f}", f"{ceiling:.3f}") for name, share, ceiling in rows]
    return text_table([("task", "correct", "recogniser alone"), *lines])

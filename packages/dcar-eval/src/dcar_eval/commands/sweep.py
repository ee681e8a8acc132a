"""`dcar-eval sweep`."""

from __future__ import annotations

import argparse
from typing import Any

from dcar.commands.common import CKPT
from dcar_eval.commands.common import add_noise_seed, add_truths, load_pipe, pick_truths, show
from dcht.commands.common import OK, add_common, positive
from dcht.config import parse_size
from dcht.device import pick_device
from dcht.errors import UsageError


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("sweep", help="quality and time over sampling settings")
    verb.add_argument(
        "axis", nargs="+", metavar="NAME|KEY=V,V",
        help="fig6 (steps) or table4 (without the residual) of the paper, or axes, of which every "
        "combination is run: num_steps=4,8,12 order=confidence,random",
    )  # fmt: skip
    verb.add_argument(
        "--num-per-task", type=positive, default=40, metavar="N", help="prompts per task [40]"
    )
    verb.add_argument(
        "--objects", metavar="NAMES",
        help="starter, wide, all, or names by commas [those that the checkpoint's words tell]",
    )  # fmt: skip
    add_noise_seed(verb)
    add_truths(verb)
    verb.add_argument("--repeats", type=positive, default=3, metavar="N", help="batches timed [3]")
    size = {"default": None, "help": "side in pixels, a multiple of 32 [the checkpoint's]"}
    add_common(
        verb, "ckpt", "seed", "size", "batch_size", "device", "precision",
        "offline", "out", "force", "resume",
        "json", ckpt=CKPT, batch_size=8, size=size,
        seed={"help": "of prompts and noise, at every point [0]"},
    )  # fmt: skip
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Run every point, print the table."""
    from dcar_eval.scenes.things import parse_objects
    from dcar_eval.sweep.axes import NAMED, parse_axes

    truths = pick_truths(arguments)
    names = [word for word in arguments.axis if "=" not in word]
    if names and names[0] not in NAMED:
        raise UsageError(f"sweep {names[0]!r} is not known; use {' or '.join(NAMED)}, or KEY=V,V")
    if len(names) > 1:
        raise UsageError(f"sweep {names[1]!r} comes second; run one after the other")
    given = parse_axes([word for word in arguments.axis if "=" in word])
    objects = parse_objects(arguments.objects) if arguments.objects else None
    width, height = parse_size(arguments.size) if arguments.size else (None, None)
    if width != height:
        raise UsageError(f"scenes are square, not {width} x {height}; give --size N")

    from dcar_eval.sweep import run_sweep, table

    name = names[0] if names else None
    results = run_sweep(
        load_pipe(arguments, pick_device(arguments.device)),
        arguments.out,
        ({} if name is None else NAMED[name].axes) | given,
        name=name,
        num_per_task=arguments.num_per_task,
        seed=arguments.seed,
        noise_seed=arguments.noise_seed,
        objects=objects,
        size=width,
        batch_size=arguments.batch_size,
        repeats=arguments.repeats,
        force=arguments.force,
        truths=truths,
    )
    show(arguments, results, table)
    return OK

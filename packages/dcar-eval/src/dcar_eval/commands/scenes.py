"""`dcar-eval scenes`."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from dcar_eval.hard.grammar import HardTask
from dcar_eval.scenes.world import PLAIN, STYLES, Split, Task
from dcht.commands.common import OK, add_common, positive
from dcht.errors import UsageError, printable

TASKS = {
    "standard": tuple(task.value for task in Task),
    "hard": tuple(task.value for task in HardTask),
}
BACKGROUNDS = ("plain", "varied", "photographic")


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("scenes", help="image-caption pairs with exact ground truth")
    verb.add_argument(
        "--sprites", type=Path,
        help="folder with the npm packages [none: only captions, a line each, into --out X.txt]",
    )  # fmt: skip
    verb.add_argument("--num", type=positive, required=True, metavar="N", help="how many scenes")
    verb.add_argument(
        "--size", type=positive, default=256, metavar="N", help="side in pixels [256]"
    )
    verb.add_argument(
        "--grammar", choices=tuple(TASKS), default="standard",
        help="standard: GenEval's six tasks on a grid; hard: up to six objects anywhere, of any "
        "size and shade, on textures [standard]",
    )  # fmt: skip
    verb.add_argument(
        "--objects", default="starter", metavar="NAMES",
        help="starter (12), wide (30), all (62), things (hundreds), or names by commas [starter]",
    )  # fmt: skip
    verb.add_argument(
        "--styles", type=names_of_styles, default=(PLAIN,), metavar="NAMES",
        help=f"of the harder grammar's art, by commas: {', '.join(STYLES)} [{PLAIN}]",
    )  # fmt: skip
    verb.add_argument(
        "--arranged", action="store_true",
        help="the harder grammar's sentences as a small model learns them first: objects in the "
        "order of the words, GenEval's own colors, plain backgrounds",
    )  # fmt: skip
    verb.add_argument(
        "--backgrounds", choices=BACKGROUNDS,
        help="of the standard grammar: gradients, patterns too, or textures of photographs too "
        "[plain]",
    )  # fmt: skip
    verb.add_argument(
        "--task", metavar="TASK",
        help=f"scenes of one task only; standard: {', '.join(TASKS['standard'])} (three or four "
        f"different objects); hard: {', '.join(TASKS['hard'])}",
    )  # fmt: skip
    verb.add_argument(
        "--split", choices=("train", "held-out"), default="train",
        help="held-out: only combinations that train never shows [train]",
    )  # fmt: skip
    verb.add_argument("--webdataset", action="store_true", help="write tars, 1,000 scenes each")
    verb.add_argument("--workers", type=positive, default=2, metavar="N", help="processes [2]")
    add_common(verb, "seed", "out", "force", "resume", "json")
    verb.set_defaults(function=run)


def names_of_styles(text: str) -> tuple[str, ...]:
    """Styles by commas; argparse reports what is not one."""
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in STYLES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not among {', '.join(STYLES)}")
    return names


def run(arguments: argparse.Namespace) -> int:
    """Draw the scenes that are not there yet, and say how many."""
    hard = arguments.grammar == "hard"
    if arguments.task not in (None, *TASKS[arguments.grammar]):
        raise UsageError(
            f"--task {arguments.task} is not of the {arguments.grammar} grammar; use "
            + ", ".join(TASKS[arguments.grammar])
        )
    if hard and arguments.backgrounds:
        raise UsageError("--backgrounds is of the standard grammar; the harder one has textures")
    if not hard and arguments.styles != (PLAIN,):
        raise UsageError("--styles is of the harder grammar; add --grammar hard")
    if not hard and arguments.arranged:
        raise UsageError("--arranged is of the harder grammar; the standard one always is")

    if arguments.sprites is None:
        return _captions(arguments)

    from dcar_eval.hard.examples import make_hard_example
    from dcar_eval.scenes.dataset import Settings, make_example, write_scenes
    from dcar_eval.scenes.things import parse_objects

    settings = Settings(
        objects=parse_objects(arguments.objects),
        size=arguments.size,
        seed=arguments.seed,
        split=arguments.split,
        webdataset=arguments.webdataset,
        backgrounds="textured"
        if hard and not arguments.arranged
        else arguments.backgrounds or "plain",
        task=arguments.task,
        grammar=arguments.grammar,
        styles=arguments.styles,
        arranged=arguments.arranged,
    )
    start = time.perf_counter()
    rendered = write_scenes(
        arguments.sprites,
        arguments.out,
        num=arguments.num,
        settings=settings,
        workers=arguments.workers,
        force=arguments.force,
        make=make_hard_example if hard else make_example,
    )
    seconds = time.perf_counter() - start
    if arguments.json:
        result = {"out": str(arguments.out), "scenes": arguments.num, "drawn": rendered}
        print(json.dumps(result | {"seconds": round(seconds, 3)}))
    else:
        out = printable(arguments.out)
        print(f"{out}: {arguments.num} scenes, {rendered} rendered now in {seconds:.1f} s")
    return OK


def _captions(arguments: argparse.Namespace) -> int:
    if arguments.grammar == "hard" or arguments.out.suffix != ".txt":
        raise UsageError(
            "scenes are rendered from --sprites; without them the standard grammar's captions go "
            "into --out X.txt"
        )
    if arguments.webdataset or arguments.backgrounds:
        name = "--webdataset" if arguments.webdataset else "--backgrounds"
        raise UsageError(f"{name} is of scenes that are rendered; name their --sprites too")
    from dcar_eval.scenes.prompts import sample_captions
    from dcar_eval.scenes.things import parse_objects
    from dcht.files import write_atomic

    lines = sample_captions(
        parse_objects(arguments.objects),
        arguments.num,
        seed=arguments.seed,
        split=Split(arguments.split),
        task=None if arguments.task is None else Task(arguments.task),
    )
    content = "".join(f"{line}\n" for line in lines).encode()
    there = arguments.out.exists() and arguments.out.read_bytes() != content
    if there and not arguments.force:
        raise UsageError(f"{arguments.out} holds other captions; use --force or another --out")
    write_atomic(arguments.out, content)
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), "captions": len(lines)}))
    else:
        print(f"{printable(arguments.out)}: {len(lines)} captions")
    return OK

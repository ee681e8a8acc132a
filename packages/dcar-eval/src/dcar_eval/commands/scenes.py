"""`dcar-eval scenes`."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from dcar_eval.scenes.world import Task
from dcht.command import OK, add_common, positive

TASKS = tuple(task.value for task in Task)


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("scenes", help="image-caption pairs with exact ground truth")
    verb.add_argument("--sprites", type=Path, required=True, help="folder with the npm packages")
    verb.add_argument("--num", type=positive, required=True, help="how many scenes")
    verb.add_argument("--size", type=positive, default=256, help="side in pixels [256]")
    verb.add_argument(
        "--objects", default="starter", metavar="NAMES",
        help="starter (12), wide (30), all (62), or names by commas [starter]",
    )  # fmt: skip
    verb.add_argument(
        "--backgrounds", choices=("plain", "varied", "photographic"), default="plain",
        help="gradients, patterns too, or textures of photographs too [plain]",
    )  # fmt: skip
    verb.add_argument(
        "--task", choices=TASKS, metavar="TASK",
        help=f"scenes of one task only: {', '.join(TASKS)} (three or four different objects)",
    )  # fmt: skip
    verb.add_argument("--split", choices=("train", "held-out"), default="train")
    verb.add_argument("--webdataset", action="store_true", help="write tars, 1,000 scenes each")
    verb.add_argument("--workers", type=positive, default=2, help="processes [2]")
    add_common(verb, "seed", "out", "force", "resume", "json")
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw the scenes that are not there yet, and say how many."""
    from dcar_eval.scenes.dataset import Settings, write_scenes
    from dcar_eval.scenes.world import parse_objects

    settings = Settings(
        objects=parse_objects(arguments.objects),
        size=arguments.size,
        seed=arguments.seed,
        split=arguments.split,
        webdataset=arguments.webdataset,
        backgrounds=arguments.backgrounds,
        task=arguments.task,
    )
    start = time.perf_counter()
    drawn = write_scenes(
        arguments.sprites,
        arguments.out,
        num=arguments.num,
        settings=settings,
        workers=arguments.workers,
        force=arguments.force,
    )
    seconds = time.perf_counter() - start
    if arguments.json:
        result = {"out": str(arguments.out), "scenes": arguments.num, "drawn": drawn}
        print(json.dumps(result | {"seconds": round(seconds, 3)}))
    else:
        print(f"{arguments.out}: {arguments.num} scenes, {drawn} drawn now in {seconds:.1f} s")
    return OK

"""`dcar-eval scenes|...`: parse, call one function, report. No torch before it is needed."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import NoReturn

from dcht.command import OK, run

EPILOG = """examples:
  npm install @lobehub/fluent-emoji-3d@1.1.0 emojibase-data@17.0.0
  dcar-eval scenes --sprites node_modules --out data/scenes --num 20000 --objects starter
  dcar-eval scenes --sprites node_modules --out data/held-out --num 1000 --split held-out --seed 1

exit codes: 0 ok, 2 usage or bad input, 3 done but some inputs were skipped, 4 bad checkpoint
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line of `dcar-eval`."""
    parser = argparse.ArgumentParser(
        prog="dcar-eval",
        description="Numbers that others can reproduce, for tokenizers and text-to-image models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    scenes = verbs.add_parser("scenes", help="image-caption pairs with exact ground truth")
    scenes.add_argument("--sprites", type=Path, required=True, help="folder with the npm packages")
    scenes.add_argument("--out", type=Path, required=True, help="folder to write")
    scenes.add_argument("--num", type=int, required=True, help="how many scenes")
    scenes.add_argument("--size", type=int, default=256, help="side in pixels [256]")
    scenes.add_argument("--seed", type=int, default=0)
    scenes.add_argument("--objects", default="starter", help="starter, all, or names by commas")
    scenes.add_argument("--split", choices=("train", "held-out"), default="train")
    scenes.add_argument("--webdataset", action="store_true", help="write tars, 1,000 scenes each")
    scenes.add_argument("--workers", type=int, default=2, help="processes [2]")
    scenes.add_argument("--force", action="store_true", help="replace what --out holds")
    scenes.add_argument("--resume", action="store_true", help="what repeating does anyway")
    scenes.add_argument("--json", action="store_true", help="print one JSON object")
    scenes.set_defaults(function=_scenes)
    return parser


def _scenes(arguments: argparse.Namespace) -> int:
    from dcar_eval.scenes.dataset import Settings, write_scenes
    from dcar_eval.scenes.world import parse_objects

    settings = Settings(
        objects=parse_objects(arguments.objects),
        size=arguments.size,
        seed=arguments.seed,
        split=arguments.split,
        webdataset=arguments.webdataset,
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


def main() -> NoReturn:
    """Entry point of the console script."""
    arguments = build_parser().parse_args()
    run(lambda: arguments.function(arguments))

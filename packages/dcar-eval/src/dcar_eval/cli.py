"""`dcar-eval reconstruction|scenes`: parse, call one function, report. No torch before it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from dcar_eval import __version__
from dcht.cli import positive
from dcht.command import OK, SKIPPED, parse_size, pick_device, run
from dcht.errors import UsageError

EPILOG = """examples:
  dcar-eval reconstruction --images photos/ --out results/       the bundled tokenizer, both paths
  dcar-eval reconstruction --ckpt runs/tokenizer --images val/ --size 512 --path hybrid --out r512/
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
    parser.add_argument("--version", action="version", version=f"dcar-eval {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = verbs.add_parser("reconstruction", help="PSNR, SSIM, LPIPS and rFID of a tokenizer")
    verb.add_argument("--images", type=Path, required=True, help="folder of images")
    verb.add_argument("--ckpt", help="tokenizer folder or Hub id [the bundled one]")
    verb.add_argument("--size", default="256", help="N or WxH, multiples of 32 [256]")
    verb.add_argument(
        "--path", choices=("hybrid", "discrete", "both"), default="both",
        help="with the residual, without it, or each [both]",
    )  # fmt: skip
    verb.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    verb.add_argument(
        "--lpips-weights", metavar="DIR",
        help="folder that `python -m dcht.perceptual` wrote [$DCHT_PERCEPTUAL_WEIGHTS]",
    )  # fmt: skip
    verb.add_argument(
        "--inception-weights", metavar="PATH",
        help="what `python -m dcar_eval.inception` fetched [$DCAR_EVAL_INCEPTION]",
    )  # fmt: skip
    verb.add_argument("--batch-size", type=positive, default=16, metavar="N")
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda or mps [auto]")
    verb.add_argument("--strict", action="store_true", help="stop at the first bad image")
    verb.add_argument("--offline", action="store_true", help="never ask the Hub")
    verb.set_defaults(function=_reconstruction)
    _add_output(verb)

    verb = verbs.add_parser("scenes", help="image-caption pairs with exact ground truth")
    verb.add_argument("--sprites", type=Path, required=True, help="folder with the npm packages")
    verb.add_argument("--num", type=positive, required=True, help="how many scenes")
    verb.add_argument("--size", type=positive, default=256, help="side in pixels [256]")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--objects", default="starter", help="starter, all, or names by commas")
    verb.add_argument("--split", choices=("train", "held-out"), default="train")
    verb.add_argument("--webdataset", action="store_true", help="write tars, 1,000 scenes each")
    verb.add_argument("--workers", type=positive, default=2, help="processes [2]")
    verb.set_defaults(function=_scenes)
    _add_output(verb)
    return parser


def _add_output(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--out", type=Path, required=True, help="folder to write")
    verb.add_argument("--force", action="store_true", help="replace what --out holds")
    verb.add_argument("--resume", action="store_true", help="what repeating a command does anyway")
    verb.add_argument("--json", action="store_true", help="print one JSON object")


def _reconstruction(arguments: argparse.Namespace) -> int:
    size = parse_size(arguments.size)
    if not arguments.images.is_dir():
        # Before torch and the weights are loaded: a typing mistake should answer at once.
        raise UsageError(f"{arguments.images} is not there; expected a folder of images")
    if arguments.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"

    from dcar_eval.metrics import load_networks
    from dcar_eval.reconstruction import evaluate_reconstruction, notes, table
    from dcht.tokenizer import Tokenizer

    device = pick_device(arguments.device)
    tokenizer = Tokenizer.from_pretrained(arguments.ckpt).to(device)
    results = evaluate_reconstruction(
        tokenizer,
        arguments.images,
        arguments.out,
        size=size,
        path=arguments.path,
        batch_size=arguments.batch_size,
        limit=arguments.limit,
        networks=load_networks(
            device=device,
            lpips_weights=arguments.lpips_weights,
            inception_weights=arguments.inception_weights,
        ),
        force=arguments.force,
        strict=arguments.strict,
    )
    print(json.dumps(results) if arguments.json else table(results))
    for note in notes(results):
        print(note, file=sys.stderr)
    if results["skipped"]:
        print(
            f"{results['skipped']} skipped: see {arguments.out / 'errors.jsonl'}", file=sys.stderr
        )
    return SKIPPED if results["skipped"] else OK


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

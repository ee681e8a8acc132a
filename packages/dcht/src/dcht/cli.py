"""`dcht encode|reconstruct`: parse, call one function, report. No torch before it is needed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NoReturn

from dcht import __version__
from dcht.command import OK, SKIPPED, parse_size, pick_device, run
from dcht.errors import UsageError

EPILOG = """examples:
  dcht encode photos/ --out latents/                      with the bundled tokenizer
  dcht encode photos/ --out latents/ --ckpt runs/tokenizer --size 512x384
  dcht reconstruct photo.jpg --out seen/ --path compare   input, discrete, hybrid, 5 x error

exit codes: 0 ok, 2 usage or bad input, 3 done but some inputs were skipped, 4 bad checkpoint
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line of `dcht`."""
    parser = argparse.ArgumentParser(
        prog="dcht",
        description="DC-HT: images to discrete tokens plus residuals, 32x smaller, and back.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dcht {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    encode = verbs.add_parser("encode", help="a folder of images to a store of latents")
    encode.add_argument("images", type=Path, help="folder; image.txt holds captions, one a line")
    encode.add_argument("--shard-size", type=positive, default=4096, help="files a shard [4096]")
    encode.set_defaults(function=_encode)

    reconstruct = verbs.add_parser("reconstruct", help="images as the tokenizer gives them back")
    reconstruct.add_argument("images", type=Path, help="an image, or a folder of them")
    reconstruct.add_argument(
        "--path", choices=("hybrid", "discrete", "compare"), default="hybrid",
        help="with the residual, without it, or a strip of both beside the input [hybrid]",
    )  # fmt: skip
    reconstruct.set_defaults(function=_reconstruct)

    for verb, batch_size in ((encode, 32), (reconstruct, 8)):
        verb.add_argument("--out", type=Path, required=True, help="folder to write")
        verb.add_argument("--ckpt", help="tokenizer folder or Hub id [the bundled one]")
        verb.add_argument("--size", default="256", help="N or WxH, multiples of 32 [256]")
        verb.add_argument("--batch-size", type=positive, default=batch_size, metavar="N")
        verb.add_argument("--device", default="auto", help="auto, cpu, cuda or mps [auto]")
        verb.add_argument("--strict", action="store_true", help="stop at the first bad image")
        verb.add_argument("--force", action="store_true", help="replace what --out holds")
        verb.add_argument(
            "--resume", action="store_true", help="what repeating a command does anyway"
        )
        verb.add_argument("--offline", action="store_true", help="never ask the Hub")
        verb.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _encode(arguments: argparse.Namespace) -> int:
    from dcht.encode import encode_folder
    from dcht.tokenizer import Tokenizer

    size = parse_size(arguments.size)
    _check_folder(arguments.images)
    tokenizer = Tokenizer.from_pretrained(arguments.ckpt).to(pick_device(arguments.device))
    start = time.perf_counter()
    manifest = encode_folder(
        tokenizer,
        arguments.images,
        arguments.out,
        size=size,
        batch_size=arguments.batch_size,
        shard_size=arguments.shard_size,
        force=arguments.force,
        strict=arguments.strict,
    )
    return _report(arguments, manifest.count, manifest.skipped, time.perf_counter() - start)


def _reconstruct(arguments: argparse.Namespace) -> int:
    from dcht.encode import reconstruct_folder
    from dcht.tokenizer import Tokenizer

    size = parse_size(arguments.size)
    if not arguments.images.is_file():
        _check_folder(arguments.images)
    tokenizer = Tokenizer.from_pretrained(arguments.ckpt).to(pick_device(arguments.device))
    start = time.perf_counter()
    result = reconstruct_folder(
        tokenizer,
        arguments.images,
        arguments.out,
        size=size,
        path=arguments.path,
        batch_size=arguments.batch_size,
        force=arguments.force,
        strict=arguments.strict,
    )
    return _report(arguments, result.written, len(result.errors), time.perf_counter() - start)


def _check_folder(folder: Path) -> None:
    # Before torch and the weights are loaded: a typing mistake should answer at once.
    if not folder.is_dir():
        raise UsageError(f"{folder} is not there; expected an image or a folder of images")


def _report(arguments: argparse.Namespace, count: int, skipped: int, seconds: float) -> int:
    if arguments.json:
        result = {"out": str(arguments.out), "images": count, "skipped": skipped}
        print(json.dumps(result | {"seconds": round(seconds, 3)}))
    else:
        print(f"{arguments.out}: {count} images in {seconds:.1f} s")
    if skipped:
        print(f"{skipped} skipped: see {arguments.out / 'errors.jsonl'}", file=sys.stderr)
    return SKIPPED if skipped else OK


def main() -> NoReturn:
    """Entry point of the console script."""
    arguments = build_parser().parse_args()
    if arguments.offline:
        import os

        os.environ["HF_HUB_OFFLINE"] = "1"
    run(lambda: arguments.function(arguments))

"""`dcht encode|reconstruct`: parse, call one function, report. No torch before it is needed."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import NoReturn

from dcht import __version__
from dcht.command import (
    add_common,
    command_parser,
    parse_size,
    pick_device,
    positive,
    report_skipped,
    run_verb,
)
from dcht.errors import UsageError

EXAMPLES = """examples:
  dcht encode photos/ --out latents/                      with the bundled tokenizer
  dcht encode photos/ --out latents/ --ckpt runs/tokenizer --size 512x384
  dcht reconstruct photo.jpg --out seen/ --path compare   input, discrete, hybrid, 5 x error
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line of `dcht`."""
    parser = command_parser(
        "dcht",
        version=__version__,
        description="DC-HT: images to discrete tokens plus residuals, 32x smaller, and back.",
        examples=EXAMPLES,
    )
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

    shared = ("out", "ckpt", "size", "batch_size", "device", "strict", "force", "resume")
    for verb, batch_size in ((encode, 32), (reconstruct, 8)):
        add_common(verb, *shared, "offline", "json", batch_size=batch_size)
    return parser


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
    return report_skipped(skipped, arguments.out / "errors.jsonl")


def main() -> NoReturn:
    """Entry point of the console script."""
    run_verb(build_parser())

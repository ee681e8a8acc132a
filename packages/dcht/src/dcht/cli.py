"""The command `dcht`: parse, call one function, report. No torch before it is needed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dcht.commands import doctor, inspect, shard
from dcht.commands.checkpoint import add_convert, add_export
from dcht.commands.common import (
    OK,
    SKIPPED,
    add_common,
    command_parser,
    part,
    positive,
    report_skipped,
    require_folder_name,
    require_sources,
    run_verb,
)
from dcht.commands.terminal import loading
from dcht.config import parse_size
from dcht.device import pick_device, pick_precision
from dcht.errors import printable

if TYPE_CHECKING:
    from dcht.latents.encode import Encoded
    from dcht.tokenizer import Tokenizer

EXAMPLES = """examples:
  dcht encode photos/ --out latents/                      with the bundled tokenizer
  dcht encode 'shards/{00000..00099}.tar' --out latents/ --ckpt runs/tokenizer --size 512x384
  dcht encode photos/ --out latents/ --dry-run            how many, how large, how long
  dcht encode data/train-*.parquet --out latents/         or hf://user/name (extra: datasets)
  dcht shard photos/ --out shards/ --seed 0               WebDataset tars, shuffled
  dcht inspect latents/ --out codes.png                   whole? which codes, what residual
  dcht decode latents/ --out pictures/
  dcht reconstruct photo.jpg --out seen/ --path compare   input, discrete, hybrid, 5 x error
"""
SOURCES = (
    "folders (searched with all below them), .tar archives (as WebDataset has them), .parquet or "
    "what the library datasets saved, hf://user/name, or lists: one path a line, .jsonl, .csv or "
    ".json; patterns as 'shards/{000..099}.tar' are understood. Captions: image.txt or "
    "image.caption (one a line), image.json, or a table with a file_name"
)


def build_parser() -> argparse.ArgumentParser:
    """The command line of `dcht`."""
    parser = command_parser(
        "dcht",
        version=version("dcht"),
        description="DC-HT: images to discrete tokens plus residuals, 32x smaller, and back.",
        examples=EXAMPLES,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    io = ("strict", "force", "resume", "offline", "json")

    encode = verbs.add_parser("encode", help="images to a store of latents")
    encode.add_argument("images", nargs="+", help=SOURCES)
    add_common(encode, "follow_links", "out", "ckpt", "size")
    _add_fit(encode)
    encode.add_argument(
        "--flip", choices=("none", "both"), default="none",
        help="both: the mirror image too, with the same captions, even where they say left [none]",
    )  # fmt: skip
    encode.add_argument(
        "--shard-size", type=positive, default=4096, metavar="N", help="inputs per shard [4096]"
    )
    encode.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="processes, each with a GPU of its own [1]",
    )
    encode.add_argument(
        "--threads", type=positive, metavar="N",
        help="CPU threads of each worker; the bytes depend on it [torch's choice]",
    )  # fmt: skip
    encode.add_argument(
        "--shard", type=part, default=(0, 1), metavar="I/N", dest="part",
        help="encode every N-th shard from the I-th on (0 <= I < N), beside N-1 other runs with "
        "the same --out; the last to end finishes the store [0/1]",
    )  # fmt: skip
    encode.add_argument(
        "--backend", choices=("local", "ray"), default="local",
        help="ray: workers are actors on a Ray cluster, or a local one (extra: ray) [local]",
    )  # fmt: skip
    encode.add_argument(
        "--dry-run", action="store_true", help="count, time one batch, and write nothing"
    )
    add_common(encode, "batch_size", "device", "precision", *io, batch_size=32)
    encode.add_argument(
        "--compile", action="store_true",
        help="compile the encoder first: half a minute, then up to three times as fast; latents "
        "agree with the plain encoder's within rounding",
    )  # fmt: skip
    encode.set_defaults(function=_encode)

    decode = verbs.add_parser("decode", help="a store of latents to images")
    decode.add_argument("latents", type=Path, help="what dcht encode wrote")
    add_common(decode, "out", "ckpt", out={"help": "folder; a.jpg becomes a.jpg.png in it"})
    decode.add_argument(
        "--path", choices=("hybrid", "discrete"), default="hybrid",
        help="with the residual or without it [hybrid]",
    )  # fmt: skip
    decode.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    add_common(
        decode, "batch_size", "device", "precision", "force", "resume", "offline", "json",
        batch_size=8,
    )  # fmt: skip
    decode.set_defaults(function=_decode)

    inspect.add(verbs)
    shard.add(verbs, sources=SOURCES)
    add_convert(verbs)
    add_export(verbs)
    doctor.add(
        verbs, prog="dcht", package="dcht", packages=("dcht", "dcar", "dcar-eval"),
        extras=doctor.EXTRAS, checkpoint=_bundled,
    )  # fmt: skip

    reconstruct = verbs.add_parser("reconstruct", help="images as the tokenizer gives them back")
    reconstruct.add_argument("images", nargs="+", help="images, or whatever dcht encode reads")
    add_common(
        reconstruct, "follow_links", "out", "ckpt", "size",
        out={"help": "folder; a.jpg becomes a.jpg.png"},
    )  # fmt: skip
    _add_fit(reconstruct)
    reconstruct.add_argument(
        "--path", choices=("hybrid", "discrete", "compare", "codes"), default="hybrid",
        help="with the residual; without it; input, both paths and error side by side; or a map of "
        "the codes, each in its color [hybrid]",
    )  # fmt: skip
    reconstruct.add_argument(
        "--tile", type=positive, metavar="N",
        help="work in tiles of N pixels: the same images, in less memory",
    )  # fmt: skip
    add_common(reconstruct, "batch_size", "device", "precision", *io, batch_size=8)
    reconstruct.set_defaults(function=_reconstruct)
    return parser


def _add_fit(verb: argparse.ArgumentParser) -> None:
    group = verb.add_mutually_exclusive_group()
    for name, help in (
        ("crop", "an image of another shape covers --size, and its center is kept [the default]"),
        ("pad", "it is fitted inside --size, with white around it"),
        ("resize", "it is stretched to --size"),
    ):
        group.add_argument(
            f"--{name}", dest="fit", action="store_const", const=name, default="crop", help=help
        )


def _encode(arguments: argparse.Namespace) -> int:
    size = parse_size(arguments.size)
    require_folder_name(arguments.out)
    require_sources(arguments.images)
    from dcht.images import Fit
    from dcht.latents.encode import encode_images, estimate
    from dcht.latents.encode_job import Backend, EncodeSettings, Flip
    from dcht.reconstruct.fidelity import infidelity
    from dcht.tokenizer import Tokenizer

    device = pick_device(arguments.device)
    settings = EncodeSettings(
        size=size,
        fit=Fit[arguments.fit],
        flip=Flip(arguments.flip),
        precision=pick_precision(arguments.precision, device),
        compile=arguments.compile,
        batch_size=arguments.batch_size,
        shard_size=arguments.shard_size,
        threads=arguments.threads,
        workers=arguments.workers,
        backend=Backend(arguments.backend),
        part=arguments.part,
        strict=arguments.strict,
    )
    tokenizer = Tokenizer.from_pretrained(arguments.ckpt, device=device)
    if arguments.dry_run:
        found = estimate(
            tokenizer, arguments.images, settings,
            follow_links=arguments.follow_links, out=arguments.out,
        )  # fmt: skip
        if arguments.json:
            print(json.dumps(found._asdict()))
        else:
            print(
                f"{found.images:,} images, {found.captioned:,} with captions ({found.problems:,} "
                f"more cannot be read) in {found.shards:,} shards, {found.bytes / 1e6:,.1f} MB, "
                f"about {found.seconds / 60:,.1f} minutes with {settings.workers} worker(s)"
                + _tables(found.tables)
                + _unread(found.unread)
            )
        _warn(infidelity(tokenizer, found.psnr))
        return OK
    start = time.perf_counter()
    found = encode_images(
        tokenizer,
        arguments.images,
        arguments.out,
        settings,
        follow_links=arguments.follow_links,
        force=arguments.force,
    )
    seconds = time.perf_counter() - start
    rate = found.encoded / seconds
    if arguments.json:
        result = {"out": str(arguments.out), **found._asdict()}
        result |= {"seconds": round(seconds, 3), "images_per_second": round(rate, 1)}
        print(json.dumps(result))
    else:
        print(f"{printable(arguments.out)}: {_summary(found, seconds)}")
    _warn(infidelity(tokenizer, found.psnr))
    if found.missing and found.skipped:
        # The list is written with the manifest, by the run that finishes the store.
        print(f"{found.skipped} skipped: will be in errors.jsonl", file=sys.stderr)
        return SKIPPED
    return report_skipped(found.skipped, arguments.out / "errors.jsonl")


def _summary(found: Encoded, seconds: float) -> str:
    parts = [
        f"{found.images} images, {found.captioned} with captions, {found.encoded} encoded now in "
        f"{seconds:.1f} s ({found.encoded / seconds:.1f} images/s)"
    ]
    if found.missing:
        parts.append(f"{found.missing} shards are still to be made")
    return "; ".join(parts) + _tables(found.tables) + _unread(found.unread)


def _warn(line: str) -> None:
    if line:
        print(f"note: {line}", file=sys.stderr)


def _tables(files: list[str]) -> str:
    more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    return f"; captions or labels from {printable(files[0])}{more}" if files else ""


def _unread(files: list[str]) -> str:
    more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    return f"; not read: {printable(files[0])}{more}" if files else ""


def _decode(arguments: argparse.Namespace) -> int:
    require_folder_name(arguments.out)
    require_sources([str(arguments.latents)])
    from dcht.latents import LatentsStore
    from dcht.latents.decode import decode_store

    store = LatentsStore(arguments.latents)
    start = time.perf_counter()
    count = decode_store(
        _load(arguments),
        store,
        arguments.out,
        path=arguments.path,
        limit=arguments.limit,
        batch_size=arguments.batch_size,
        force=arguments.force,
    )
    asked = len(store) if arguments.limit is None else min(arguments.limit, len(store))
    return _report(arguments, count, asked - count, time.perf_counter() - start)


def _reconstruct(arguments: argparse.Namespace) -> int:
    size = parse_size(arguments.size)
    require_folder_name(arguments.out)
    require_sources(arguments.images)
    from dcht.images import Fit
    from dcht.reconstruct import reconstruct_images

    start = time.perf_counter()
    result = reconstruct_images(
        _load(arguments),
        arguments.images,
        arguments.out,
        size=size,
        fit=Fit[arguments.fit],
        path=arguments.path,
        tile=arguments.tile,
        batch_size=arguments.batch_size,
        force=arguments.force,
        strict=arguments.strict,
        follow_links=arguments.follow_links,
    )
    return _report(arguments, result.written, len(result.errors), time.perf_counter() - start)


def _load(arguments: argparse.Namespace) -> Tokenizer:
    with loading():
        from dcht.tokenizer import Tokenizer

        return Tokenizer.from_pretrained(
            arguments.ckpt, device=pick_device(arguments.device), precision=arguments.precision
        )


def _report(arguments: argparse.Namespace, count: int, skipped: int, seconds: float) -> int:
    if arguments.json:
        result = {"out": str(arguments.out), "images": count, "skipped": skipped}
        print(json.dumps(result | {"seconds": round(seconds, 3)}))
    else:
        print(f"{printable(arguments.out)}: {count} images in {seconds:.1f} s")
    return report_skipped(skipped, arguments.out / "errors.jsonl")


def main() -> NoReturn:
    """Entry point of the console script."""
    run_verb(build_parser())


def _bundled() -> str:
    from dcht.tokenizer import Tokenizer

    return str(Tokenizer.from_pretrained().sha256)

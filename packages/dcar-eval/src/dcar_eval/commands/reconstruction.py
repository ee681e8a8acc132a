"""`dcar-eval reconstruction`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dcht.command import add_common, parse_size, pick_device, positive, report_skipped
from dcht.errors import UsageError


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("reconstruction", help="PSNR, SSIM, LPIPS and rFID of a tokenizer")
    verb.add_argument("--images", type=Path, required=True, help="folder of images")
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
    shared = ("ckpt", "size", "batch_size", "device", "strict", "offline", "out", "force", "resume")
    add_common(verb, *shared, "json", batch_size=16)
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, name what was skipped."""
    size = parse_size(arguments.size)
    if not arguments.images.is_dir():
        # Before torch and the weights are loaded: a typing mistake should answer at once.
        raise UsageError(f"{arguments.images} is not there; expected a folder of images")

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
    return report_skipped(results["skipped"], arguments.out / "errors.jsonl")

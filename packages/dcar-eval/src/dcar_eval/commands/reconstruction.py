"""`dcar-eval reconstruction`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dcar_eval.commands.common import (
    add_inception,
    add_share,
    pick_metrics,
    pick_share,
    print_results,
)
from dcar_eval.metrics.protocol import PROTOCOLS
from dcht.commands.common import OK, add_common, positive, report_skipped, require_sources
from dcht.config import parse_size


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("reconstruction", help="PSNR, SSIM, LPIPS and rFID of a tokenizer")
    verb.add_argument("--images", type=Path, required=True, help="whatever dcht encode reads")
    verb.add_argument(
        "--path", choices=("hybrid", "discrete", "both"), default="both",
        help="with the residual, without it, or each [both]",
    )  # fmt: skip
    verb.add_argument(
        "--protocol", choices=list(PROTOCOLS), default="dcar", help="whose conventions [dcar]"
    )
    verb.add_argument(
        "--metrics", metavar="NAMES", default="",
        help="beside the protocol's, any of ms-ssim,mind,precision-recall,cmmd",
    )  # fmt: skip
    verb.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    verb.add_argument(
        "--lpips-weights", metavar="DIR",
        help="folder that `python -m dcht.perceptual` wrote [$DCHT_PERCEPTUAL_WEIGHTS]",
    )  # fmt: skip
    add_inception(verb)
    add_share(verb)
    shared = (
        "follow_links",
        "ckpt",
        "size",
        "batch_size",
        "device",
        "precision",
        "strict",
        "offline",
        "out",
    )
    add_common(verb, *shared, "force", "resume", "json", batch_size=16)
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, name what was skipped."""
    size = parse_size(arguments.size)
    # Before torch and the weights are loaded: a typing mistake should answer at once.
    require_sources([str(arguments.images)])

    from dataclasses import replace

    from dcar_eval.metrics.networks import FURTHER, load_networks

    further = pick_metrics(arguments.metrics, list(FURTHER))
    from dcar_eval.reconstruction import evaluate_reconstruction, notes, table
    from dcht.engine.distributed import world
    from dcht.tokenizer import Tokenizer

    protocol = PROTOCOLS[arguments.protocol]
    protocol = replace(protocol, fid=arguments.extractor or protocol.fid)
    with world(arguments.device) as here:
        share = pick_share(arguments, here)
        evaluate_reconstruction(
            Tokenizer.from_pretrained(
                arguments.ckpt, device=here.device, precision=arguments.precision
            ),
            arguments.images,
            arguments.out,
            size=size,
            path=arguments.path,
            batch_size=arguments.batch_size,
            limit=arguments.limit,
            networks=load_networks(
                protocol,
                device=here.device,
                lpips_weights=arguments.lpips_weights,
                inception_weights=arguments.inception_weights,
                further=further,
            ),
            share=share,
            force=arguments.force,
            strict=arguments.strict,
            follow_links=arguments.follow_links,
        )
        here.barrier()
        if not here.main:
            return OK
    if (results := print_results(arguments, share, table, notes)) is None:
        return OK
    return report_skipped(results["skipped"], arguments.out / "errors.jsonl")

"""`dcht shard`: images with captions and labels as WebDataset tars."""

from __future__ import annotations

import argparse
import json
from typing import Any

from dcht.commands.common import (
    add_common,
    positive,
    report_skipped,
    require_folder_name,
    require_sources,
)
from dcht.errors import printable

EXAMPLES = """examples:
  dcht shard photos/ --out shards/
  dcht shard photos/ --out shards/ --shard-size 5000 --seed 0      shuffled
  dcht shard hf://user/name --out shards/                          once, and then from disk
"""


def add(verbs: Any, *, sources: str) -> None:
    """Add the verb to the subparsers; `sources` says what it reads."""
    verb = verbs.add_parser(
        "shard",
        help="images with captions and labels to WebDataset tars",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("images", nargs="+", help=sources)
    verb.add_argument(
        "--shard-size", type=positive, default=1000, metavar="N", help="images per tar [1000]"
    )
    add_common(
        verb, "follow_links", "seed", "out", "strict", "force", "resume", "offline", "json",
        seed={"default": None, "help": "shuffle the images by this seed [sorted by name]"},
    )  # fmt: skip
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the tars that are not there yet."""
    require_folder_name(arguments.out)
    require_sources(arguments.images)
    from dcht.data.webdataset import write_shards

    found = write_shards(
        arguments.images,
        arguments.out,
        shard_size=arguments.shard_size,
        seed=arguments.seed,
        follow_links=arguments.follow_links,
        strict=arguments.strict,
        force=arguments.force,
    )
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), **found._asdict()}))
    else:
        beside = [f"captions or labels from {name}" for name in found.tables]
        beside += [f"not read: {name}" for name in found.unread]
        print(
            f"{printable(arguments.out)}: {found.images:,} images in {found.shards:,} tars, "
            f"{found.written:,} written now"
            + "".join(f"; {printable(part)}" for part in beside[:3])
        )
    return report_skipped(found.skipped, arguments.out / "errors.jsonl")

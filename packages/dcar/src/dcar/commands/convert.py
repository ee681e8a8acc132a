"""`dcar convert`: the published release as one of our checkpoints."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from dcht.commands.common import OK, add_common
from dcht.errors import printable
from dcht.files import locked

EXAMPLES = """examples:
  dcar convert --from release pretrained_models/ --out dc-ar-512/       dc-ar-512/ and dc-ht/ there
  dcar convert --from release mit-han-lab/dc-ar-512 --tokenizer mit-han-lab/dc-ht --out dc-ar-512/
  dcar generate "a photo of a red apple" --ckpt dc-ar-512/ --out apple.png

The weights are for non-commercial use only; `dcht convert` makes a tokenizer of dc-ht alone.
"""


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser(
        "convert",
        help="the published release to a checkpoint",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "source", help="folder of the release; or of its generator, a weights file or a Hub id"
    )
    verb.add_argument(
        "--from", choices=["release"], required=True, dest="layout", help="whose layout it is"
    )
    verb.add_argument(
        "--tokenizer", metavar="NAME", help="its image tokenizer, where it is not beside it"
    )
    verb.add_argument(
        "--text",
        metavar="NAME",
        help="a copy of google-t5/t5-base, to read in its place",
    )
    add_common(verb, "out", "force", "resume", "offline", "json", out={"help": "folder"})
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the checkpoint, and say once what its license allows."""
    from dcar.weights.release_keys import LIMIT, write_release

    with locked(arguments.out):
        sha256 = write_release(
            arguments.source,
            arguments.out,
            tokenizer=arguments.tokenizer,
            text=arguments.text,
            force=arguments.force,
        )
    print(printable(f"{arguments.out}: {LIMIT}; see README.md there"), file=sys.stderr)
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), "sha256": sha256}))
    else:
        print(printable(f"{arguments.out}: {sha256[:12]}"))
    return OK

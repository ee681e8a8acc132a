"""`dcar-train export`: a run's averaged weights in a folder of their own, with a model card."""

from __future__ import annotations

import argparse
import json
from typing import Any

from dcar.train_config import PublishDtype
from dcht.commands.common import OK, add_common
from dcht.errors import printable

EXAMPLES = """examples:
  dcar-train export runs/256 --out published/
  dcar-train export runs/256 --out published/ --dtype float16 --tokenizer me/my-tokenizer
  dcar generate "a red apple" --ckpt published/ --out apple.png
"""


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser(
        "export",
        help="publish what a run has made",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("source", metavar="RUN", help="the run's folder, its out=")
    verb.add_argument(
        "--dtype",
        choices=[dtype.value for dtype in PublishDtype],
        default=PublishDtype.float32.value,
        help="precision of the weights [float32]",
    )
    verb.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="folder or Hub id where others find the image tokenizer [where it is]",
    )
    add_common(verb, "out", "force", "json", out={"help": "folder"})
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder and name its hash."""
    from dcar.train.publish import export

    sha256 = export(
        arguments.source,
        arguments.out,
        dtype=PublishDtype(arguments.dtype),
        tokenizer=arguments.tokenizer,
        force=arguments.force,
    )
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), "sha256": sha256}))
    else:
        print(printable(f"{arguments.out}: {sha256[:12]}"))
    return OK

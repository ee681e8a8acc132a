"""`dcht-train export`: a run's tokenizer in a folder of its own, with a model card."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from dcht.commands.common import OK, add_common
from dcht.errors import printable
from dcht.train_config import PublishDtype

EXAMPLES = """examples:
  dcht-train export runs/tokenizer --out published/
  dcht-train export runs/tokenizer --out published/ --dtype float16
  dcht encode photos/ --ckpt published/ --out latents/
"""


def add(verbs: Any, export: Callable[..., str]) -> None:
    """Add the verb to the subparsers; `export` is `dcht.train.publish.export`."""
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
        help="precision of the weights [as the run has them, and the same hash]",
    )
    add_common(verb, "out", "force", "resume", "json", out={"help": "folder"})
    verb.set_defaults(function=lambda arguments: _run(arguments, export))


def _run(arguments: argparse.Namespace, export: Callable[..., str]) -> int:
    sha256 = export(
        arguments.source,
        arguments.out,
        dtype=None if arguments.dtype is None else PublishDtype(arguments.dtype),
        force=arguments.force,
    )
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), "sha256": sha256}))
    else:
        print(printable(f"{arguments.out}: {sha256[:12]}"))
    return OK

"""`dcar-eval report`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from dcht.commands.common import OK, add_common
from dcht.errors import printable


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("report", help="results beside the paper's, as HTML and Markdown")
    verb.add_argument(
        "results", nargs="+", type=Path, metavar="PATH",
        help="folders that dcar-eval wrote (those below are found), or results.json files",
    )  # fmt: skip
    add_common(verb, "out", "force", "json", out={"help": "folder for report.html and report.md"})
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Write both pages, print their names."""
    from dcar_eval.report.pages import write_report

    files = write_report(arguments.results, arguments.out, force=arguments.force)
    if arguments.json:
        print(json.dumps({"files": [str(file) for file in files]}))
    else:
        print("\n".join(map(printable, files)))
    return OK

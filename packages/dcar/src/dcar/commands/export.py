"""`dcar export`: a generator as ONNX files, for programs without torch."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from dcar.commands.common import CKPT
from dcht.commands.common import OK, add_common
from dcht.errors import printable
from dcht.files import begin, locked, write_atomic

EXAMPLES = """examples:
  dcar export --out generator/                          the bundled one; and its image tokenizer:
  dcht export --out tokenizer/
  dcar export --ckpt runs/256/checkpoint --out generator/
"""


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser(
        "export",
        help="a generator as ONNX files: text, transformer step, head (dcht[onnx])",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common(
        verb, "out", "ckpt", "force", "resume", "offline", "json",
        out={"help": "folder"}, ckpt=CKPT,
    )  # fmt: skip
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the graphs and what a sampler has to know beside them."""
    from dcht.export import RECORD, require_onnx, save_onnx

    require_onnx()
    out: Path = arguments.out
    with locked(out):
        from dcar.export import NAMES, beside, export_programs, facts_of, graph_names
        from dcar.weights.pretrained import load_pretrained

        found = load_pretrained(arguments.ckpt)
        facts, others = facts_of(found), beside(found)
        files = [f"{name}.onnx" for name in graph_names(found.config)] + list(others)
        begin(out, RECORD, facts, files=files, force=arguments.force)
        for name, content in others.items():
            write_atomic(out / name, content)
        if not all((out / name).exists() for name in files):
            save_onnx(export_programs(found.model, found.text), out, NAMES)
    if arguments.json:
        print(json.dumps({"out": str(out), "files": files, "checkpoint": found.sha256}))
    else:
        print(f"{printable(out)}: {', '.join(files)}")
    return OK

"""`dcar app`: the generator and its tokenizer in a browser, on this machine."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import Any

from dcar.commands.common import CKPT
from dcar.config import SAFETY_THRESHOLD
from dcht.commands.common import OK, PRECISION_WITH_INT8, add_common
from dcht.errors import UsageError

PORT = 7860
EXAMPLES = """examples:
  dcar app                                       http://127.0.0.1:7860, until Ctrl-C
  dcar app --ckpt runs/mine/checkpoint --port 8080 --open

Without --share it answers on this machine alone, sends nothing to anybody, and asks no other host
for anything.
"""


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser(
        "app",
        help="generate, reconstruct, edit and replay in a browser (extra: app)",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "--port", type=port, default=PORT, metavar="N", help=f"port on 127.0.0.1 [{PORT}]"
    )
    verb.add_argument("--open", action="store_true", help="open it in the browser")
    verb.add_argument(
        "--share", action="store_true",
        help="a public address for three days, through Gradio's servers [this machine alone]",
    )  # fmt: skip
    verb.add_argument(
        "--safety", metavar="NAME",
        help="ask this ShieldGemma (folder or Hub id) about every prompt [no check]",
    )  # fmt: skip
    verb.add_argument(
        "--safety-threshold", type=float, metavar="P",
        help=f"P(Yes) from which a prompt is rejected [{SAFETY_THRESHOLD}]",
    )  # fmt: skip
    add_common(
        verb, "ckpt", "device", "precision", "offline", ckpt=CKPT, precision=PRECISION_WITH_INT8
    )
    verb.set_defaults(function=run)


def port(text: str) -> int:
    """An argparse type: a port that needs no privilege."""
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; expected 1024 to 65535")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    if find_spec("gradio") is None:
        raise UsageError("dcar app needs the extra app: pip install 'dcar[app]'")
    print("loading ...", file=sys.stderr, flush=True)
    from dcar.app.server import serve
    from dcar.app.studio import Studio
    from dcar.commands.common import load_pipe

    pipe = load_pipe(arguments)
    studio = Studio(pipe, ckpt=arguments.ckpt, safety=arguments.safety)
    serve(studio, port=arguments.port, open_browser=arguments.open, share=arguments.share)
    return OK

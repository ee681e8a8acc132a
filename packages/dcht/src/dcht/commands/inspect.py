"""`dcht inspect`: what a store of latents holds, and whether it is whole."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from dcht.commands.common import OK, add_common, require_sources
from dcht.errors import UsageError


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    inspect = verbs.add_parser("inspect", help="what a store holds, and whether it is whole")
    inspect.add_argument("latents", type=Path, help="what dcht encode wrote")
    plot = {"required": False, "metavar": "X.png", "help": "draw how often each code occurs"}
    add_common(inspect, "out", "force", "json", out=plot)
    inspect.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print it, and write the plot that was asked for."""
    require_sources([str(arguments.latents)])
    if arguments.out is not None and arguments.out.suffix.lower() != ".png":
        raise UsageError(f"--out {arguments.out} is an image; it should end in .png")
    if arguments.out is not None and arguments.out.exists() and not arguments.force:
        raise UsageError(f"{arguments.out} is there already; use --force or another --out")
    from dcht.images import save_png
    from dcht.latents import LatentsStore
    from dcht.latents.inspect import inspect_store, plot_codes

    store = LatentsStore(arguments.latents)
    if arguments.out is not None and store.continuous:
        raise UsageError(f"{arguments.latents} holds continuous latents: it has no codes to plot")
    found, histogram = inspect_store(store)
    if arguments.out is not None:
        save_png(plot_codes(histogram, str(arguments.latents)), arguments.out)
    print(json.dumps(vars(found)) if arguments.json else found.lines())
    return OK

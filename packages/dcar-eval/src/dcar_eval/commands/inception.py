"""`python -m dcar_eval.inception --out DIR`: download FID's weights and print where they are."""

from __future__ import annotations

import argparse
from pathlib import Path

from dcar_eval.metrics.inception import FILE, download
from dcht.commands.common import OK
from dcht.errors import printable


def main() -> int:
    """Download; the file's SHA-256 is checked."""
    parser = argparse.ArgumentParser(
        prog="python -m dcar_eval.inception", description=f"Download {FILE} (96 MB)."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    print(printable(download(parser.parse_args().out)))
    return OK

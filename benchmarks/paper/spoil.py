"""Images that are there, blurred or shrunk, for `dcar-eval scenes-eval --images`.

    python benchmarks/paper/spoil.py IMAGES OUT [--blur PX | --shrink PX]

PX is of 256: a blur's standard deviation, or the side to which an image is shrunk before it is
enlarged again. 16 if nothing is said, shrunk.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageFilter

from dcht.commands.common import OK, run
from dcht.images import open_image, save_png


def blurred(image: Image.Image, level: float) -> Image.Image:
    """An image at a level of blur, in pixels of 256."""
    return image.filter(ImageFilter.GaussianBlur(level * image.width / 256))


def shrunk(image: Image.Image, side: int = 16) -> Image.Image:
    """An image after so few pixels."""
    small = image.resize((side, side), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def main() -> int:
    """Spoil every PNG of a folder."""
    parser = argparse.ArgumentParser(prog="benchmarks/paper/spoil.py")
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--blur", type=float)
    ways.add_argument("--shrink", type=int, default=16)
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    for file in sorted(words.images.glob("*.png")):
        image = open_image(file)
        spoiled = shrunk(image, words.shrink) if words.blur is None else blurred(image, words.blur)
        save_png(spoiled, words.out / file.name, {})
    return OK


if __name__ == "__main__":
    run(main)

"""The photographs of `photos.csv`: what a tokenizer trains on, and what is kept from it.

Rule: every fourth row of the table (the 4th, the 8th, ...) is kept for evaluation and never tiled.
The others are cut into 256 px squares at three scales, short side 256, 512 and 1024 px, as far as
they have the pixels.

    apt-get download lomiri-wallpapers-16.04 libjxl-testdata
    pip download --no-deps scikit-image==0.26.0 scikit-learn==1.9.1
    for package in *.deb; do dpkg-deb -x $package unpacked; done
    for package in *.whl; do unzip -q $package -d unpacked; done
    python benchmarks/paper/photos.py unpacked --tiles tiles --kept kept
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from dcht.images import open_image

TABLE = Path(__file__).with_name("photos.csv")
KEPT_EVERY = 4
SIDE = 256
SCALES = (256, 512, 1024)


class Photo(NamedTuple):
    """A row of the table, found."""

    path: Path
    caption: str


def find_photos(roots: list[Path]) -> list[Photo]:
    """The photographs of the table, in its order, wherever they lie below some folders."""
    photos = []
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            found = [path for root in roots for path in sorted(root.rglob(row["file"]))]
            if not found:
                raise SystemExit(f"{row['file']} of {row['package']} is below none of the folders")
            photos.append(Photo(found[0], row["caption"]))
    return photos


def cut_tiles(photo: Image.Image) -> list[Image.Image]:
    """Squares of 256 px that cover the photograph at every scale that it has pixels for.

    What is left over at the right and at the bottom is dropped.
    """
    short = min(photo.size)
    tiles = []
    for scale in SCALES:
        if scale > short:
            break
        width, height = (round(length * scale / short) for length in photo.size)
        scaled = photo.resize((width, height), Image.Resampling.LANCZOS)
        tiles += [
            scaled.crop((left, top, left + SIDE, top + SIDE))
            for top in range(0, height - SIDE + 1, SIDE)
            for left in range(0, width - SIDE + 1, SIDE)
        ]
    return tiles


def main() -> None:
    """Find, divide, cut and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", type=Path, nargs="+", help="folders with the packages' files")
    parser.add_argument("--tiles", type=Path, required=True, help="where the training tiles go")
    parser.add_argument("--kept", type=Path, required=True, help="where the kept photographs go")
    arguments = parser.parse_args()
    for folder in (arguments.tiles, arguments.kept):
        folder.mkdir(parents=True, exist_ok=True)
    num_tiles = num_kept = 0
    for number, (path, _) in enumerate(find_photos(arguments.roots)):
        photo = open_image(path)
        if number % KEPT_EVERY == KEPT_EVERY - 1:
            photo.save(arguments.kept / f"{number:02d}.png")
            num_kept += 1
            continue
        tiles = cut_tiles(photo)
        for index, tile in enumerate(tiles):
            tile.save(arguments.tiles / f"{number:02d}-{index:03d}.png")
        num_tiles += len(tiles)
    print(f"{num_tiles} tiles in {arguments.tiles}, {num_kept} photographs in {arguments.kept}")


if __name__ == "__main__":
    main()

"""Close-ups of single things: windows of half a scene's side, each with its captions.

    python benchmarks/paper/close_ups.py SCENES ... --out OUT [--centered]

SCENES: folders of `dcar-eval scenes` whose images show one thing each. A thing of 358 that is eight
tokens wide is learned by name from a quarter of the tokens. What does not fit a window is left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dcht.commands.common import OK, run

Box = tuple[int, int, int, int]
IN_FOLDER = 1000


def window(box: Box, size: int, rng: np.random.Generator | None) -> Box | None:
    """Half of an image of `size` pixels a side, with all of `box` in it; None: it does not fit.

    Args:
        box: left, top, right, bottom.
        size: of the image.
        rng: what decides where; None: the middle.
    """
    side, corner = size // 2, []
    for low, high in (box[::2], box[1::2]):
        first, last = max(0, high - side), min(low, size - side)
        middle = size // 4
        if first > last or (rng is None and not first <= middle <= last):
            return None
        corner.append(middle if rng is None else int(rng.integers(first, last + 1)))
    return corner[0], corner[1], corner[0] + side, corner[1] + side


def scenes(folders: list[Path]) -> Iterator[tuple[Path, Box]]:
    """The images that show one thing, and where it is."""
    for folder in folders:
        for truth in sorted(folder.glob("part-*/*.json")):
            objects = json.loads(truth.read_text())["objects"]
            if len(objects) == 1:
                yield truth.with_suffix(".jpg"), objects[0]["box"]


def main() -> int:
    """Cut and write."""
    parser = argparse.ArgumentParser(prog="benchmarks/paper/close_ups.py")
    parser.add_argument("scenes", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--centered", action="store_true", help="the middle of each [any place]")
    words = parser.parse_args()
    count = 0
    for number, (file, box) in enumerate(tqdm(scenes(words.scenes), unit="img", disable=None)):
        rng = None if words.centered else np.random.default_rng(number)
        with Image.open(file) as image:
            cut = window(box, image.width, rng)
            if cut is None:
                continue
            folder = words.out / f"part-{number // IN_FOLDER:04d}"
            folder.mkdir(parents=True, exist_ok=True)
            name = folder / f"{number:06d}.jpg"
            image.convert("RGB").crop(cut).save(name, quality=97, subsampling=0)
        shutil.copy(file.with_suffix(".txt"), name.with_suffix(".txt"))
        count += 1
    print(f"{words.out}: {count:,} close-ups")
    return OK


if __name__ == "__main__":
    run(main)

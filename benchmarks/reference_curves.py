"""The reference curves of `doctor --compare`: both trainers' experiment `tiny`, and what it logs.

    python benchmarks/reference_curves.py            # makes both again
    python benchmarks/reference_curves.py --data DIR # only writes the images that they read

The images are drawn here, from a seed: 48 discs on shades, 64 x 64, each with a caption.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
COLORS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 200)}
COUNT, SIDE = 48, 64
DATA = f"{COUNT} images of benchmarks/reference_curves.py --data DIR"
NOT_KEPT = ("time", "images_per_second", "sequences_per_second", "peak_memory_gib")


def write_images(folder: Path) -> None:
    """Discs of three colors on two shades of gray, at random places."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    for number in range(COUNT):
        name = [*COLORS][number % len(COLORS)]
        pixels = np.empty((SIDE, SIDE, 3), np.uint8)
        low, high = sorted(random.integers(90, 240, 2))
        pixels[:] = np.linspace(low, high, SIDE).astype(np.uint8)[:, None, None]
        row, column, radius = random.integers((16, 16, 8), (48, 48, 16))
        pixels[(y - row) ** 2 + (x - column) ** 2 < radius**2] = COLORS[name]
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"a {name} disc\n")


def pack(run: Path, experiment: str, package: str) -> None:
    """Write a run as the reference of a package."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{k: round(v, 6) for k, v in row.items() if k not in NOT_KEPT} for row in rows]
    settings = json.loads((run / "config.json").read_text())
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    text = (
        f'{{"experiment": {json.dumps(experiment)},\n "data": {json.dumps(DATA)},\n'
        f' "settings": {json.dumps(settings)},\n "rows": [\n  {lines}\n ]}}\n'
    )
    path = ROOT / "packages" / package / "src" / package / "references" / f"{experiment}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.replace(str(run.parent), "."))


def main() -> None:
    """Make both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    if arguments.data is not None:
        write_images(arguments.data)
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_images(work / "images")
        tokenizer, generator = work / "tokenizer", work / "generator"
        words = ["dcht-train", "+experiment=tiny", f"data.root={work}/images", f"out={tokenizer}"]
        subprocess.run(words, check=True)
        pack(tokenizer, "tiny", "dcht")
        words = ["dcar-train", "+experiment=tiny", f"tokenizer_ckpt={tokenizer}/tokenizer"]
        words += ["data=folder", f"data.root={work}/images", f"out={generator}"]
        subprocess.run(words, check=True)
        pack(generator, "tiny", "dcar")


if __name__ == "__main__":
    main()

"""What the light decoder costs and saves: likeness and processor time beside the large one.

    OMP_NUM_THREADS=1 python benchmarks/speed/light.py IMAGES [IMAGES ...]

Images are cut to the middle square and resized. Each is decoded by both from the same latent, on
both paths; PSNR is the mean over images. The two take turns, and the fastest of `--rounds` counts.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from statistics import mean

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning counts as work

import torch
from PIL import Image, ImageOps

from dcht import Tokenizer
from dcht.arguments import to_pixels
from dcht.images import IMAGE_SUFFIXES, grid, to_pil
from dcht.reconstruct.show import psnr

PATHS = ("hybrid", "discrete")


@torch.inference_mode()
def main() -> None:
    """Parse, measure, print a table of Markdown; `--sheet` shows what it is about."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("images", type=Path, nargs="+", help="folders; a row of the table each")
    parser.add_argument("--ckpt", help="a tokenizer with a light decoder [the bundled one]")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--limit", type=int, default=64, help="images of a folder, evenly [64]")
    parser.add_argument("--rounds", type=int, default=15, help="of which the fastest counts [15]")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--sheet", type=Path, help="PNG: input, large and light decoder, by path")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_pretrained(arguments.ckpt, precision=arguments.precision)
    if tokenizer.light is None:
        parser.error("this tokenizer has no light decoder")
    print("| images | path | large (dB) | light (dB) | light beside large (dB) |")
    print("|---|---|---|---|---|")
    shown: list[Image.Image] = []
    latent = None
    for folder in arguments.images:
        files = sorted(path for path in folder.rglob("*") if path.suffix in IMAGE_SUFFIXES)
        count = min(arguments.limit, len(files))
        rows: dict[str, list[tuple[float, ...]]] = {path: [] for path in PATHS}
        for number in range(count):
            image = square(files[number * len(files) // count], arguments.size)
            pixels = to_pixels(image, factor=32)
            found = tokenizer.tokenize(image)
            latent = found.z_q + found.residual
            sheet_row = [image]
            for path in PATHS:
                code = latent if path == "hybrid" else found.z_q
                large, light = tokenizer.decode(code).float(), tokenizer.preview(code).float()
                pairs = ((large, pixels), (light, pixels), (light, large))
                rows[path].append(tuple(psnr(*pair).item() for pair in pairs))
                sheet_row += [to_pil(large[0]), to_pil(light[0])]
            shown += sheet_row if number < 4 else []
        for path, found_rows in rows.items():
            cells = " | ".join(f"{mean(column):.2f}" for column in zip(*found_rows, strict=True))
            print(f"| {folder.name}, {count} | {path} | {cells} |")
    assert latent is not None, "no folder is empty"
    times = {"large": float("inf"), "light": float("inf")}
    for _ in range(arguments.rounds):
        for name, decode in (("large", tokenizer.decode), ("light", tokenizer.preview)):
            began = time.process_time()
            decode(latent)
            times[name] = min(times[name], time.process_time() - began)
    print(
        f"\n{arguments.size} px, {arguments.precision}, one thread, processor time an image: large "
        f"{1000 * times['large']:.1f} ms, light {1000 * times['light']:.1f} ms, "
        f"{times['large'] / times['light']:.2f} times as fast"
    )
    if arguments.sheet is not None:
        grid(shown, columns=1 + 2 * len(PATHS)).save(arguments.sheet)


def square(path: Path, size: int) -> Image.Image:
    """The middle square of an image, of this side."""
    with Image.open(path) as image:
        return ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()

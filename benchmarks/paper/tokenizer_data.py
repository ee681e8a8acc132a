"""What the tokenizer sees beside scenes: collages of sprites, and pieces of photographs.

    npm install @lobehub/fluent-emoji-3d@1.1.0 emojibase-data@17.0.0 @iconify-json/noto@1.2.9 \
        @iconify-json/fluent-emoji-flat@1.2.6
    pip install resvg_py==0.5.0
    PYTHONPATH=benchmarks python benchmarks/paper/tokenizer_data.py node_modules unpacked \
        --out mixed --collages 10000 --pieces 4000

`unpacked` is what `benchmarks/paper/photos.py` asks for; its kept photographs are in no piece and
behind no collage. The two drawn styles are those of the packages `noto` and `fluent-emoji-flat`,
rendered by resvg.

Nothing that scenes hold out can appear: of the objects of scenes (all sixty-two) a collage has one
at most, in its own colors, so that no pair, no count, no relation and no color of them is shown.
Image k is a function of k and the seed.
"""

from __future__ import annotations

import argparse
import io
import json
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from photos import KEPT_EVERY, SIDE, find_photos
from PIL import Image

from dcar_eval.scenes.sprites import recolor
from dcar_eval.scenes.world import SPRITE_LABELS

STYLES = {"noto": "@iconify-json/noto", "flat": "@iconify-json/fluent-emoji-flat"}
DRAWN_SIDE = 256
FLAGS, COMPONENTS = 9, 2
"""Groups of emojibase without things: flags (of other art), and parts of other emoji."""
CHUNK = 500
QUALITY = 95


@cache
def library(folder: str) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """(style, place, label) of the sprites of things that scenes have, and of all other things."""
    root = Path(folder)
    labels = json.loads(next(root.rglob("en/data.json")).read_text())
    wanted = {SPRITE_LABELS[name] for name in SPRITE_LABELS}
    files = {path.stem.lower().replace("-fe0f", ""): path for path in sorted(root.rglob("*.webp"))}
    icons = {
        style: set(json.loads((root / package / "icons.json").read_text())["icons"])
        for style, package in STYLES.items()
    }
    known, other = [], []
    for row in labels:
        if row.get("group") in (FLAGS, COMPONENTS, None):
            continue
        mine = known if row["label"] in wanted else other
        code = row["hexcode"].lower().replace("-fe0f", "")
        if code in files:
            mine.append(("3d", str(files[code]), row["label"]))
        slug = row["label"].lower().replace(" ", "-").replace(":", "").replace(",", "")
        mine += [(style, slug, row["label"]) for style in STYLES if slug in icons[style]]
    return known, other


@cache
def icon_set(folder: str, style: str) -> dict:
    """An icon set of iconify: bodies of SVG by name, and the side they are drawn on."""
    return json.loads((Path(folder) / STYLES[style] / "icons.json").read_text())


@cache
def sprite(folder: str, style: str, place: str) -> Image.Image:
    """A sprite as RGBA, cut to what is visible."""
    if style == "3d":
        image = Image.open(place).convert("RGBA")
    else:
        import resvg_py  # pyright: ignore[reportMissingImports]

        icons = icon_set(folder, style)
        side = icons.get("width", icons.get("height", 16))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" '
            f'width="{DRAWN_SIDE}" height="{DRAWN_SIDE}">{icons["icons"][place]["body"]}</svg>'
        )
        drawn = resvg_py.svg_to_bytes(svg_string=svg)
        image = Image.open(io.BytesIO(bytes(drawn))).convert("RGBA")
    return image.crop(image.getchannel("A").getbbox())


@cache
def training_photos(folder: str) -> list[Image.Image]:
    """The photographs that may be trained on, short side 1,024 px at most."""
    found = []
    for number, (path, _) in enumerate(find_photos([Path(folder)])):
        if number % KEPT_EVERY == KEPT_EVERY - 1:
            continue
        photo = Image.open(path).convert("RGB")
        scale = min(1.0, 1024 / min(photo.size))
        width, height = (round(length * scale) for length in photo.size)
        found.append(photo.resize((width, height), Image.Resampling.LANCZOS))
    return found


def piece(rng: np.random.Generator, photos: str) -> Image.Image:
    """A square of a photograph, of 256 px up to its whole short side, seen at 256 px."""
    chosen = training_photos(photos)[rng.integers(len(training_photos(photos)))]
    side = min(round(SIDE * float(np.exp(rng.uniform(0, np.log(4))))), *chosen.size)
    left, top = (int(rng.integers(0, length - side + 1)) for length in chosen.size)
    cut = chosen.crop((left, top, left + side, top + side))
    return cut.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def ground(rng: np.random.Generator, photos: str) -> Image.Image:
    """What stands behind a collage: one shade, two that run into each other, or a photograph."""
    kind = rng.choice(("plain", "gradient", "stripes", "photograph"), p=(0.2, 0.4, 0.15, 0.25))
    if kind == "photograph":
        return piece(rng, photos)
    first, second = (
        rng.uniform(0, 255, (2, 3)) if rng.random() < 0.5 else rng.uniform(150, 255, (2, 3))
    )
    if kind == "plain":
        second = first
    angle = rng.uniform(0, 2 * np.pi)
    row, column = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    level = np.cos(angle) * row + np.sin(angle) * column
    level = (
        0.5 + level / 1.42
        if kind != "stripes"
        else 0.5 + 0.5 * np.sin(2 * np.pi * rng.integers(2, 9) * level)
    )
    return Image.fromarray(
        (first + (second - first) * level[..., None]).clip(0, 255).astype(np.uint8)
    )


def collage(rng: np.random.Generator, folder: str, photos: str) -> Image.Image:
    """One to five sprites of any size at any place, later ones over earlier ones."""
    known, other = library(folder)
    canvas = ground(rng, photos)
    count = int(rng.choice((1, 2, 3, 4, 5), p=(0.35, 0.25, 0.15, 0.15, 0.1)))
    one_of_scenes = rng.random() < 0.4
    for number in range(count):
        choices = known if one_of_scenes and number == count - 1 else other
        style, place, _ = choices[rng.integers(len(choices))]
        image = sprite(folder, style, place)
        if choices is other and rng.random() < 0.25:
            red, green, blue = (int(value) for value in rng.uniform(20, 250, 3))
            image = recolor(image, (red, green, blue))
        largest = 0.95 if count == 1 else 0.65
        scale = SIDE * float(rng.uniform(0.2, largest)) / max(image.size)
        width, height = (max(1, round(length * scale)) for length in image.size)
        # Resized with premultiplied alpha, or the hidden color of clear pixels bleeds in.
        small = (
            image.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
        )
        left = int(rng.uniform(-0.15 * width, SIDE - 0.85 * width))
        top = int(rng.uniform(-0.15 * height, SIDE - 0.85 * height))
        canvas.paste(small, (left, top), small)
    return canvas


def write(job: tuple[str, int, int, str, str, str, int]) -> int:
    """Draw images `first` up to `last` of a kind, those that are there aside."""
    kind, first, last, folder, photos, out, seed = job
    for index in range(first, last):
        path = Path(out) / kind / f"{index // CHUNK:03d}" / f"{index:06d}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, index, kind == "pieces"])
        drawn = piece(rng, photos) if kind == "pieces" else collage(rng, folder, photos)
        partial = path.with_suffix(".partial")
        drawn.save(partial, format="JPEG", quality=QUALITY, subsampling=0)
        partial.rename(path)
    return last - first


def main() -> None:
    """Draw both folders below `--out`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sprites", help="node_modules with the four packages")
    parser.add_argument("photos", help="the unpacked packages of benchmarks/paper/photos.py")
    parser.add_argument("--out", required=True, help="folder for collages/ and pieces/")
    parser.add_argument("--collages", type=int, required=True)
    parser.add_argument("--pieces", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    a = parser.parse_args()
    jobs = [
        (kind, first, min(first + CHUNK, count), a.sprites, a.photos, a.out, a.seed)
        for kind, count in (("collages", a.collages), ("pieces", a.pieces))
        for first in range(0, count, CHUNK)
    ]
    with ProcessPoolExecutor(a.workers, get_context("spawn")) as pool:
        print(f"{sum(pool.map(write, jobs))} images in {a.out}")


if __name__ == "__main__":
    main()

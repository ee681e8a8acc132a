"""Sprites drawn here, in the layout of the npm packages: what the scenes are composed from."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from dcar_eval.scenes.world import SPRITE_LABELS

OBJECTS = ("apple", "banana", "car", "dog")


def make_sprite(kind: int) -> Image.Image:
    """A shaded disc or box with a clear margin that differs from sprite to sprite."""
    image = Image.new("RGBA", (256, 256))
    draw = ImageDraw.Draw(image)
    box = (20 + 10 * kind, 10, 240, 250 - 20 * kind)
    shape = draw.ellipse if kind % 2 else draw.rectangle
    shape(box, fill=(60 + 40 * kind, 90, 200 - 40 * kind, 255))
    draw.rectangle((100, 100, 130, 130), fill=(250, 250, 240, 255))
    draw.rectangle((140, 140, 160, 160), fill=(10, 10, 20, 255))
    return image


@pytest.fixture
def npm_folder(tmp_path: Path) -> Path:
    """A `node_modules` with four sprites; the car's file name carries a variation selector."""
    art = tmp_path / "node_modules" / "@lobehub" / "fluent-emoji-3d" / "assets"
    labels = tmp_path / "node_modules" / "emojibase-data" / "en"
    art.mkdir(parents=True)
    labels.mkdir(parents=True)
    codes = ("1F34E", "1F34C", "1F697-FE0F", "1F415")
    rows = [
        {"label": SPRITE_LABELS[name], "hexcode": code}
        for name, code in zip(OBJECTS, codes, strict=True)
    ]
    (labels / "data.json").write_text(json.dumps(rows))
    for kind, code in enumerate(codes):
        make_sprite(kind).save(art / f"{code.lower()}.webp", lossless=True)
    return tmp_path / "node_modules"

"""The art: found in npm's layout, recolored so that the color is the color."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcar_eval.scenes.sprites import Sprites, recolor
from dcar_eval.scenes.world import COLORS, SPRITE_LABELS
from dcht.errors import UsageError

OBJECTS = ("apple", "banana", "car", "dog")


def shaded(*levels: int) -> Image.Image:
    """A gray sprite whose shares of dark, middle and light pixels are given."""
    gray = np.concatenate([np.full(n, v) for n, v in zip(levels, (60, 120, 240), strict=True)])
    pixels = np.repeat(gray[None, :, None], 4, axis=2).astype(np.uint8)
    pixels[..., 3] = 255
    pixels[:, -5:, 3] = 0  # a clear edge, which must not count
    return Image.fromarray(pixels)


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("levels", [(70, 20, 10), (10, 20, 70)], ids=["dark", "light"])
def test_most_of_a_recolored_sprite_has_the_color_itself(
    color: str, levels: tuple[int, int, int]
) -> None:
    out = np.asarray(recolor(shaded(*levels), COLORS[color]))[0]
    assert tuple(np.median(out[out[:, 3] == 255][:, :3], axis=0)) == COLORS[color]


def test_recoloring_keeps_alpha_and_the_order_of_light_and_shade() -> None:
    image = shaded(30, 40, 30)
    out = np.asarray(recolor(image, COLORS["blue"])).astype(int)
    assert np.array_equal(out[..., 3], np.asarray(image)[..., 3])
    dark, middle, light = out[0, 0, :3], out[0, 50, :3], out[0, 90, :3]
    assert tuple(middle) == COLORS["blue"]
    assert (dark < middle).all()
    assert (middle < light).all()


def test_a_flat_sprite_takes_the_color() -> None:
    out = np.asarray(recolor(shaded(0, 50, 0), COLORS["green"]))
    assert tuple(out[0, 0, :3]) == COLORS["green"]


def test_sprites_are_found_with_and_without_a_variation_selector(npm_folder: Path) -> None:
    art = npm_folder / "@lobehub" / "fluent-emoji-3d" / "assets"
    assert Sprites(npm_folder, OBJECTS).files["car"].name == "1f697-fe0f.webp"
    (art / "1f697-fe0f.webp").rename(art / "1f697.webp")
    (art / "1f34e.webp").rename(art / "1f34e-fe0f.webp")
    files = Sprites(npm_folder, OBJECTS).files
    assert (files["car"].name, files["apple"].name) == ("1f697.webp", "1f34e-fe0f.webp")


def test_a_sprite_of_any_shape_fits_its_square(npm_folder: Path) -> None:
    path = next(npm_folder.rglob("1f34e.webp"))
    Image.new("RGBA", (256, 264), (200, 10, 10, 255)).save(path, lossless=True)
    sprite = Sprites(npm_folder, OBJECTS).get("apple", None, 66)
    assert sprite.size == (66, 66)
    assert sprite.getpixel((33, 0)) == pytest.approx((200, 10, 10, 255), abs=2)


def test_hidden_colors_do_not_bleed_into_the_edge(npm_folder: Path) -> None:
    """Clear pixels of a file may hold any color: here bright green, around a red square."""
    pixels = np.zeros((256, 256, 4), dtype=np.uint8)
    pixels[..., 1] = 255
    pixels[64:192, 64:192] = (200, 0, 0, 255)
    path = next(npm_folder.rglob("1f34e.webp"))
    Image.fromarray(pixels).save(path, lossless=True, exact=True)
    sprite = np.asarray(Sprites(npm_folder, OBJECTS).get("apple", None, 45)).astype(int)
    assert sprite[sprite[..., 3] > 20][:, 1].max() <= 20


def test_what_is_missing_is_named_with_the_command_that_gets_it(npm_folder: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder of sprites; get them with: npm install"):
        Sprites(npm_folder / "nowhere", OBJECTS)
    with pytest.raises(UsageError, match="has no sprite for 'zebra'; get them with"):
        Sprites(npm_folder, (*OBJECTS, "zebra"))
    damaged = next(npm_folder.rglob("1f415.webp"))
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(UsageError, match=r"1f415\.webp: .*; get them with"):
        Sprites(npm_folder, OBJECTS).get("dog", None, 32)
    shutil.rmtree(npm_folder / "emojibase-data")
    with pytest.raises(UsageError, match=r"has no en/data\.json of emojibase-data"):
        Sprites(npm_folder, OBJECTS)


@pytest.mark.needs_npm
def test_the_real_packages_have_all_sprites() -> None:
    folder = os.environ.get("DCAR_EVAL_SPRITES")
    if not folder:
        pytest.skip("DCAR_EVAL_SPRITES names no folder with the npm packages")
    assert len(Sprites(folder, tuple(SPRITE_LABELS)).files) == 62

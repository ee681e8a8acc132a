"""The big world's names, and its art in other styles."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dcar_eval.scenes.captions import plural
from dcar_eval.scenes.sprites import Sprites, recolor
from dcar_eval.scenes.things import PEOPLE, labels, parse_objects, same_things, things
from dcar_eval.scenes.world import COLORS, SPRITE_LABELS, STYLES
from dcht.errors import UsageError


def test_at_least_five_hundred_things_have_names_of_their_own() -> None:
    assert len(set(labels().values())) >= 500
    assert max(Counter(things()).values()) == 1
    assert set(PEOPLE) <= set(things())
    for name in things():
        assert not set(name.split()) & {"and", "in", "of", "with", "small", "large"}
        assert name == "orange" or not set(name.split()) & set(COLORS)


def test_the_sixty_two_are_among_them_under_their_own_names() -> None:
    assert {name: labels()[name] for name in SPRITE_LABELS} == SPRITE_LABELS
    assert all(same_things()[name] == name for name in SPRITE_LABELS)


@pytest.mark.parametrize(
    ("typed", "thing"), [("bike", "bicycle"), ("hat", "hat"), ("bunny", "rabbit"), ("tree", "tree")]
)
def test_short_forms_mean_the_same(typed: str, thing: str) -> None:
    assert same_things()[typed] == thing


@pytest.mark.parametrize(
    ("name", "many"),
    [("fox", "foxes"), ("cherry", "cherries"), ("toy", "toys"), ("maple leaf", "maple leaves"),
     ("woman", "women"), ("fish", "fish"), ("wine glass", "wine glasses"), ("glasses", "glasses"),
     ("computer mouse", "computer mice"), ("kitchen knife", "kitchen knives")],
)  # fmt: skip
def test_plurals(name: str, many: str) -> None:
    assert plural(name) == many


def test_a_name_that_is_not_known_gets_near_ones() -> None:
    assert parse_objects("owl,fox") == ("fox", "owl")
    with pytest.raises(UsageError, match=r"'guitarr' is not known; .* names like guitar"):
        parse_objects("guitarr,fox")


def test_painted_small_it_is_what_is_painted_and_made_small(npm_folder: Path) -> None:
    sprites = Sprites(npm_folder, ("apple", "car"))
    for shade in (COLORS["red"], COLORS["black"], (200, 120, 90)):
        painted = recolor(sprites._original("car"), shade).resize((64, 64))
        ours = np.asarray(sprites.in_shade("car", "3d", shade, 64)).astype(float)
        opaque = ours[..., 3] > 250
        difference = np.abs(ours - np.asarray(painted))[opaque][:, :3]
        assert np.median(difference) <= 2
        assert difference.mean() < 8


def test_other_styles_are_drawn_from_vectors(npm_folder: Path) -> None:
    """A square of which the left half is drawn, and a thing that the style does not have."""
    with pytest.raises(UsageError, match="no art in style 'noto'; get it with: npm install"):
        Sprites(npm_folder, ("apple", "car"), STYLES)
    body = '<path d="M0 0h16v32h-16z" fill="#f00"/>'
    for package in ("noto", "fluent-emoji-flat"):
        folder = npm_folder / "@iconify-json" / package
        folder.mkdir(parents=True)
        icons = {"height": 32, "icons": {"automobile": {"body": body}}}
        (folder / "icons.json").write_text(json.dumps(icons))
    sprites = Sprites(npm_folder, ("apple", "car"), STYLES)
    assert sprites.has("car", "flat")
    assert not sprites.has("apple", "flat")
    drawn = np.asarray(sprites.in_shade("car", "flat", None, 40))
    assert drawn[:, :19].tolist() == np.full((40, 19, 4), (255, 0, 0, 255)).tolist()
    assert (drawn[:, 21:, 3] == 0).all()
    assert sprites.outline("car", "flat", 8)[:, :4].all()
    assert sprites.extent("car", "flat") == 1

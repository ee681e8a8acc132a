"""The film of an unmasking: its frames are the previews, and its overlay marks the right tokens."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from dcar.pipeline import TextToImage
from dcar.pipeline.film import LINE, NEW, VEIL, Film, token_overlay, unmasking_film

HIDDEN = 9


def test_an_overlay_veils_what_is_hidden_and_frames_what_is_new() -> None:
    before = torch.tensor([[1, HIDDEN, HIDDEN]])
    after = torch.tensor([[1, 2, HIDDEN]])
    overlay = np.asarray(token_overlay(after, before, hidden=HIDDEN, patch=32))
    assert overlay.shape == (32, 96, 4)
    known, new, hidden = overlay[:, :32], overlay[:, 32:64], overlay[:, 64:]
    assert (known[1:, 1:] == 0).all() and (known[0] == LINE).all()
    assert (new[2:-2, 2:-2] == 0).all() and (new[:2] == NEW).all() and (new[:, -2:] == NEW).all()
    assert (hidden[1:, 1:] == VEIL).all()
    first = np.asarray(token_overlay(after, None, hidden=HIDDEN, patch=32))
    assert (first[:2, :32] == NEW).all()


def test_a_film_has_the_steps_and_ends_with_the_call_s_image(pipe: TextToImage) -> None:
    film = unmasking_film(pipe, "a red apple", seed=5)
    result = pipe("a red apple", seed=5)
    assert len(film.previews) == result.settings.num_steps + 1
    *steps, last = film.frames()
    assert last.tobytes() == result.images[0].tobytes()
    plain = Film(film.previews, film.hidden).frames()
    assert plain[0].tobytes() == film.previews[0].images[0].tobytes() != steps[0].tobytes()
    shown = film._repr_html_().partition("data:image/gif;base64,")[2].partition('"')[0]
    with Image.open(io.BytesIO(base64.b64decode(shown))) as moving:
        assert moving.n_frames == len(film.previews)  # type: ignore[attr-defined]
    assert film.sheet().width == len(film.previews) * (96 + 4) - 4


@pytest.mark.parametrize("count", [2, 3])
def test_several_images_are_frames_of_two_columns(pipe: TextToImage, count: int) -> None:
    film = unmasking_film(pipe, ["a dog"] * count)
    assert film.frames()[0].size == (2 * 96 + 4, (-(-count // 2)) * (64 + 4) - 4)


def test_a_result_shows_its_images_and_what_they_were_asked_for(pipe: TextToImage) -> None:
    result = pipe("a red <b>apple</b>", num_images=3, seed=5)
    shown = result._repr_html_()
    assert "a red &lt;b&gt;apple&lt;/b&gt;" in shown and "<b>" not in shown
    width, height = result.images[0].size
    assert f"3 of {width} x {height}" in shown and "data:image/png;base64," in shown

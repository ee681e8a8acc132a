"""What Gradio does not have: the stage of a run, the painter of a mask, known words, an upload.

Functions and not classes: Gradio writes a `.pyi` file beside the module of each class derived from
a component of its own.
"""

from __future__ import annotations

from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from dcar.app.studio import data_url
from dcht.errors import UsageError
from dcht.images import ImageError, open_image

FILES = resources.files("dcar.app")
"""Where the style and the scripts are."""


def stage(name: str, hint: str) -> gr.HTML:
    """The steps of a run: `{frames, total, running, waiting}`; the frames are `Progress.frames`."""
    return gr.HTML(
        value={"frames": []},
        elem_id=name,
        html_template=STAGE.replace("HINT", escape(hint)),
        js_on_load=(FILES / "stage.js").read_text(),
        apply_default_css=False,
    )


STAGE = """
<div class="stage">
  <div class="stage-empty"><span class="stage-mark"></span><p>HINT</p></div>
  <div class="stage-waiting" hidden><span class="stage-mark"></span>
    <p>waiting for its turn</p></div>
  <div class="stage-view" hidden>
    <img class="stage-image" alt="the image as of this step">
    <div class="stage-progress"><div class="stage-bar"></div></div>
    <div class="stage-row">
      <span class="stage-label" role="status"></span>
      <label><input type="checkbox" class="stage-tokens" checked> token grid</label>
    </div>
    <input type="range" class="stage-slider" min="0" max="0" value="0" aria-label="step">
  </div>
</div>
"""


def painter(name: str) -> gr.HTML:
    """A mask painted in tokens: `{image, width, height, patch, cells}`, as `canvas` makes it."""
    return gr.HTML(
        value=None,
        elem_id=name,
        html_template=PAINTER,
        js_on_load=(FILES / "painter.js").read_text(),
        apply_default_css=False,
    )


def painted(value: Any) -> list[str]:
    """The rows of `cells` of a painter's value; none where nothing was painted."""
    cells = value.get("cells") if isinstance(value, dict) else None
    good = isinstance(cells, list) and all(
        isinstance(row, str) and set(row) <= {"#", "."} for row in cells
    )
    return cells if good and cells else []


PAINTER = """
<div class="painter">
  <div class="painter-empty"><p>upload an image to paint on it</p></div>
  <div class="painter-view" hidden>
    <canvas aria-label="paint where the image is to change"></canvas>
    <div class="painter-row">
      <span class="painter-count" role="status"></span>
    </div>
    <div class="painter-row">
      <label>brush <input type="range" class="painter-brush" min="4" max="128" value="24"></label>
      <label><input type="checkbox" class="painter-erase"> erase</label>
      <button type="button" class="painter-invert">Invert</button>
      <button type="button" class="painter-clear">Clear</button>
    </div>
  </div>
</div>
"""


def canvas(image: Image.Image, patch: int) -> dict[str, Any]:
    """What a painter shows of an image whose sides are multiples of `patch`, nothing painted."""
    rows, columns = image.height // patch, image.width // patch
    return {
        "image": data_url(image),
        "width": image.width,
        "height": image.height,
        "patch": patch,
        "cells": ["." * columns] * rows,
    }


def words(kinds: dict[str, list[str]]) -> gr.HTML:
    """Known words by kind, to be put into the prompt; it shows nothing where any text is read."""
    return gr.HTML(
        value=kinds,
        html_template='<div class="words"><div class="words-kinds"></div>'
        '<div class="words-list"></div></div>',
        js_on_load=(FILES / "words.js").read_text(),
        apply_default_css=False,
        visible=bool(kinds),
    )


class Uploaded(NamedTuple):
    """A file that a visitor sent."""

    path: Path
    name: str
    """What it was called there."""

    def image(self) -> Image.Image:
        """It as an image, with the limits of every other reader of images.

        Raises:
            UsageError: it is none that is opened.
        """
        try:
            return open_image(self.path)
        except ImageError as error:
            raise UsageError(f"{self.name}: {error}") from None


def upload(label: str, name: str) -> gr.Image:
    """An image to drop, of which a function gets an `Uploaded` or None.

    Gradio's own reading is left out: it opens any format of Pillow's, at any size. It must be no
    function's output: of an output Gradio makes a new one, which reads as it always does.
    """
    component = gr.Image(
        label=label, sources=["upload"], type="filepath", elem_id=name, height=240, buttons=[],
    )  # fmt: skip
    component.preprocess = _received  # type: ignore[method-assign]
    return component


def _received(payload: Any) -> Uploaded | None:
    """Where an upload lies: Gradio has checked that the path is one of its own."""
    if payload is None or payload.path is None:
        return None
    return Uploaded(Path(payload.path), payload.orig_name or "the file")


def notice(lines: list[str] | str = "", *, kind: str = "note") -> str:
    """Lines for people as HTML, whatever they hold; `kind` is note, good or error."""
    lines = [lines] if isinstance(lines, str) else lines
    said = "".join(f"<p>{escape(line)}</p>" for line in lines if line)
    return f'<div class="notice {kind}" role="alert">{said}</div>' if said else ""

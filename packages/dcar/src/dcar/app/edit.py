"""The tab *Edit*: part of an image generated anew, more of it, or a variation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from einops import repeat
from PIL import Image

from dcar.app.components import Uploaded, canvas, painted, painter, upload
from dcar.app.generate import MAX_SEED
from dcar.app.run import ERRORS, MODEL, failed, results_column, run_series
from dcar.app.studio import MAX_IMAGES, MAX_SIDE, Studio
from dcar.pipeline.edit import Edit, inpaint, outpaint
from dcht.errors import UsageError
from dcht.images import open_image, save_png
from dcht.reconstruct.show import fit_sides

WAYS = ("Inpaint", "Outpaint", "Variation")
SIDES = ("left", "right", "top", "bottom")


def edit_tab(studio: Studio) -> None:
    """Build the tab."""
    patch = studio.patch
    with gr.Row(equal_height=False, elem_classes="work"):
        with gr.Column(scale=5, min_width=320, elem_classes="asked"):
            photo = upload("Image", "edited")
            way = gr.Radio(WAYS, value=WAYS[0], label="What to do", elem_id="way")
            mask = painter("painter")
            with gr.Group(visible=False, elem_id="margins") as margins:
                around = []
                for pair in (SIDES[:2], SIDES[2:]):  # four in a row have no room for their numbers
                    with gr.Row():
                        around += [_margin(side, patch) for side in pair]
            strength = gr.Slider(
                0.05, 1, 1, step=0.05, label="Strength", elem_id="strength",
                info="share of the tokens that is generated anew",
            )  # fmt: skip
            prompt = gr.Textbox(
                label="Prompt", lines=2, elem_id="edit-prompt",
                placeholder="what the whole image shows afterwards",
            )  # fmt: skip
            with gr.Row(elem_classes="acts"):
                start = gr.Button("Edit", variant="primary", elem_id="edit", scale=3)
                stop = gr.Button("Stop", scale=1, min_width=80)
            with gr.Column(elem_classes="later"):
                with gr.Row():
                    side = gr.Slider(
                        2 * patch, MAX_SIDE, 8 * patch, step=patch, min_width=150,
                        label="Longer side", elem_id="edit-side",
                    )  # fmt: skip
                    count = gr.Slider(1, MAX_IMAGES, 1, step=1, label="Images", min_width=150)
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED,
                                 elem_id="edit-seed")  # fmt: skip
        with gr.Column(scale=7, min_width=320, elem_classes="made"):
            results = results_column("edits", "the edited image appears here, token by token")
            slider = gr.ImageSlider(label="Before and after", type="pil", format="png",
                                    interactive=False, visible=False, elem_id="edit-compared",
                                    max_height=560)  # fmt: skip
            inputs_used = gr.Files(label="What the command reads", visible=False,
                                   interactive=False, elem_id="edit-inputs")  # fmt: skip

    def read(file: Uploaded | None, side: int) -> Image.Image:
        if file is None:
            raise UsageError("no image; drop one, or choose a file")
        return fit_sides(file.image(), side, patch=patch)

    def load(file: Uploaded | None, side: int) -> dict[Any, Any]:
        try:
            image = None if file is None else read(file, side)
        except ERRORS as error:
            return {mask: None, results.said: failed(error)}
        return {mask: None if image is None else canvas(image, patch), results.said: ""}

    def switch(way: str) -> dict[Any, Any]:
        return {
            mask: gr.update(visible=way == "Inpaint"),
            margins: gr.update(visible=way == "Outpaint"),
            strength: gr.update(visible=way != "Outpaint",
                                value=0.5 if way == "Variation" else 1),
        }  # fmt: skip

    def edit(
        file: Uploaded | None, side: int, way: str, cells: Any, strength: float,
        left: int, right: int, top: int, bottom: int, prompt: str, count: int, seed: int,
        kept: list[str],
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        around = {"left": left, "right": right, "top": top, "bottom": bottom}
        try:
            image = read(file, side)
            where = _mask(painted(cells), image, patch) if way == "Inpaint" else None
            asked = _edit(way, image, where, strength, around, patch)
            series, notes = studio.plan(
                prompt, seed=seed, num_images=count, edit=asked, settings={}
            )
            fields: dict[str, Any] = {"mask": where is not None}
            if way == "Outpaint":
                fields["margins"] = around
            elif way == "Variation" or strength < 1:
                fields["strength"] = strength
            recipe = studio.recipe(series, prompt, **fields)
            paths = yield from run_series(studio, results, series, notes, prompt, kept, recipe)
            after = open_image(paths[0])
            before = Image.new("RGB", after.size, "white")
            before.paste(image, (asked.left, asked.top))
            files = _inputs(paths[0].parent, image, where)
            yield {
                slider: gr.update(value=(before, after), visible=True),
                inputs_used: gr.update(value=files, visible=True),
            }
        except ERRORS as error:
            yield {results.said: failed(error), results.stage: {"frames": []}}

    for event in (photo.upload, photo.clear, side.release):
        event(load, [photo, side], [mask, results.said], queue=False, show_progress="hidden")
    way.change(switch, way, [mask, margins, strength], queue=False, show_progress="hidden")
    asked = [photo, side, way, mask, strength, *around, prompt, count, seed, results.kept]
    running = gr.on(
        [start.click, prompt.submit], edit, asked, [*results, slider, inputs_used],
        concurrency_id=MODEL, show_progress="hidden",
    )  # fmt: skip
    stop.click(
        lambda: {"frames": []}, None, results.stage, cancels=[running], queue=False,
        show_progress="hidden",
    )  # fmt: skip


def _margin(side: str, patch: int) -> gr.Slider:
    start = 2 * patch if side == "right" else 0
    label = f"{side.capitalize()}, px"
    return gr.Slider(0, 8 * patch, start, step=patch, label=label, min_width=140)


def _mask(cells: list[str], image: Image.Image, patch: int) -> Image.Image:
    """The painted tokens as a mask of the image's size.

    Raises:
        UsageError: nothing is painted, or it was painted over an image of another size.
    """
    rows, columns = image.height // patch, image.width // patch
    if not any("#" in row for row in cells):
        raise UsageError("nothing is painted; paint over what is to change")
    if len(cells) != rows or any(len(row) != columns for row in cells):
        raise UsageError(f"the mask was painted over another size; now it is {columns} x {rows}")
    tokens = np.array([[mark == "#" for mark in row] for row in cells])
    pixels = repeat(tokens, "h w -> (h p) (w q)", p=patch, q=patch)
    return Image.fromarray(pixels.astype(np.uint8) * 255)


def _edit(
    way: str,
    image: Image.Image,
    mask: Image.Image | None,
    strength: float,
    around: dict[str, int],
    patch: int,
) -> Edit:
    if way == "Outpaint":
        return outpaint(image, **around, patch=patch)
    # As the command writes it: the record's bytes have 1, not 1.0.
    return inpaint(image, mask, patch=patch, strength=1 if strength == 1 else strength)


def _inputs(folder: Path, image: Image.Image, mask: Image.Image | None) -> list[str]:
    """`photo.png` and `mask.png` for the command, as files."""
    files = {"photo.png": image} | ({} if mask is None else {"mask.png": mask})
    for name, image in files.items():
        save_png(image, folder / name)
    return [str(folder / name) for name in files]

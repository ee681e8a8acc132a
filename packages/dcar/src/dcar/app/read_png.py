"""The tab *Read a PNG*: what made an image, and whether it can be made again, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from dcar.app.components import Uploaded, notice, upload
from dcar.app.run import ERRORS, MODEL, failed
from dcar.app.studio import Studio
from dcar.pipeline.record import Record, read_record
from dcht.checkpoint import to_dict
from dcht.errors import UsageError
from dcht.images import open_image


def read_tab(studio: Studio) -> None:
    """Build the tab."""
    with gr.Row(equal_height=False, elem_classes="work"):
        with gr.Column(scale=4, min_width=320, elem_classes="asked"):
            file = gr.File(label="PNG made by dcar", elem_id="png", height=140, buttons=[])
            replay = gr.Button("Replay", variant="primary", interactive=False, elem_id="replay")
            with gr.Column(visible=False) as of_edit:
                original = upload("Of an edit: the image that was edited", "original")
        with gr.Column(scale=8, min_width=320, elem_classes="made"):
            said = gr.HTML(elem_id="read-said")
            record = gr.HTML(EMPTY, elem_id="record")
            with gr.Row(visible=False) as images:
                given = gr.Image(label="The file", format="png", interactive=False, buttons=[])
                again = gr.Image(label="Made again", format="png", interactive=False,
                                 elem_id="again", buttons=["download"])  # fmt: skip

    def read(path: str | None) -> dict[Any, Any]:
        off = gr.update(interactive=False)
        hidden = gr.update(visible=False)
        if path is None:
            return {said: "", record: EMPTY, replay: off, images: hidden, of_edit: hidden}
        try:
            found = _record(path)
        except ERRORS as error:
            return {said: failed(error), record: EMPTY, replay: off, images: hidden,
                    of_edit: hidden}  # fmt: skip
        ours = found.weights == studio.pipe.sha256
        return {
            said: notice("" if ours else "made with other weights than these: --ckpt names them"),
            record: _table(found),
            replay: gr.update(interactive=ours),
            of_edit: gr.update(visible=found.edit is not None),
            images: gr.update(visible=True),
            given: open_image(path),
            again: None,
        }

    def make(path: str | None, image: Uploaded | None) -> Iterator[dict[Any, Any]]:
        try:
            if path is None:
                raise UsageError("no file; drop a PNG that dcar made")
            found = _record(path)
            if found.edit is not None and image is None:
                raise UsageError("this is an edit: give the image that was edited, too")
            yield {said: notice("replaying ...")}
            made = studio.replay(found, None if image is None else image.image())
        except ERRORS as error:
            yield {said: failed(error)}
            return
        yield {said: _verdict(Path(path), made), again: str(made)}

    file.change(
        read, file, [said, record, replay, of_edit, images, given, again],
        queue=False, show_progress="hidden",
    )  # fmt: skip
    replay.click(
        make, [file, original], [said, again], concurrency_id=MODEL, show_progress="hidden"
    )


EMPTY = (
    '<div class="stage"><div class="stage-empty"><span class="stage-mark"></span>'
    "<p>drop a PNG to read what made it</p></div></div>"
)


def _record(path: str) -> Record:
    """The record of a file, whose name in an error is that which the visitor knows.

    Raises:
        UsageError: not a PNG, or one without a record.
    """
    try:
        return read_record(Path(path))
    except UsageError as error:
        raise UsageError(str(error).replace(path, Path(path).name)) from None


def _verdict(given: Path, made: Path) -> str:
    """Whether two PNG are equal: their bytes, or else how far their pixels are apart."""
    if given.read_bytes() == made.read_bytes():
        return notice("byte-equal: the same file, made again", kind="good")
    with Image.open(given) as before, Image.open(made) as after:
        apart = np.abs(np.asarray(before.convert("RGB"), int) - np.asarray(after.convert("RGB")))
    if not apart.any():
        return notice("not byte-equal: the pixels are equal, but the file was written otherwise")
    return notice(
        f"not byte-equal: {np.mean(apart > 0):.2%} of the values differ, by {apart.max()} of 255 "
        "at most; another release, device or number of threads rounds otherwise"
    )


def _table(record: Record) -> str:
    """What made an image, as a table."""
    settings = to_dict(record.settings)
    rows: dict[str, Any] = {
        "Prompt": record.prompt,
        "Not read of it": record.left_out,
        "Seed": f"{record.seed}, image {record.index}",
        "Size": f"{record.width} x {record.height}",
        "Edit": None if record.edit is None else _edit(record),
        "Safety": None if record.safety is None else str(record.safety),
        "Sampling": ", ".join(f"{name} {settings[name]}" for name in SHOWN),
        "Weights": record.weights,
        "Computed": f"{record.device}, {record.threads} thread{'s' * (record.threads != 1)}, "
        f"row {record.row} of a batch of {record.batch_size}",
    }
    body = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
        if value is not None
    )
    return f'<table class="record">{body}</table>'


SHOWN = ("order", "num_steps", "cfg_scale", "temperature", "solver", "num_diffusion_steps")
"""The sampling settings that the table has."""


def _edit(record: Record) -> str:
    assert record.edit is not None
    tokens = sum(row.count("#") for row in record.edit.region)
    return (
        f"of {record.edit.width} x {record.edit.height} pixels: {tokens} tokens could change, "
        f"strength {record.edit.strength:g}"
    )

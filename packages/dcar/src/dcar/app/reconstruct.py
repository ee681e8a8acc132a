"""The tab *Reconstruct*: what the tokenizer keeps of an image, with its residual and without."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from dcar.app.components import Uploaded, notice, upload
from dcar.app.run import ERRORS, MODEL, failed
from dcar.app.studio import MAX_SIDE, Studio
from dcht.display.codes import code_color
from dcht.errors import UsageError
from dcht.reconstruct.show import Reconstruction, show_reconstruction

PAIRS = ("original and hybrid", "original and discrete", "discrete and hybrid")
SHOWN_CODES = 16
"""Of the most frequent codes."""


def reconstruct_tab(studio: Studio) -> None:
    """Build the tab."""
    with gr.Row(equal_height=False, elem_classes="work"):
        with gr.Column(scale=4, min_width=320, elem_classes="asked"):
            photo = upload("Image", "photo")
            side = gr.Slider(
                2 * studio.patch, MAX_SIDE, 8 * studio.patch, step=studio.patch,
                label="Longer side", elem_id="side",
                info=f"a token is {studio.patch} x {studio.patch} pixels",
            )  # fmt: skip
            start = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
            pair = gr.Radio(PAIRS, value=PAIRS[0], label="Compare", elem_id="pair")
        with gr.Column(scale=8, min_width=320, elem_classes="made"):
            said = gr.HTML(elem_id="reconstruct-said")
            numbers = gr.HTML(EMPTY, elem_id="numbers")
            slider = gr.ImageSlider(
                label="Before and after", type="pil", format="png", interactive=False,
                visible=False, elem_id="compared", max_height=560,
            )  # fmt: skip
            with gr.Row(visible=False) as parts:
                error = gr.Image(label="Error of hybrid x 5", format="png", interactive=False,
                                 elem_id="error", buttons=["download", "fullscreen"])  # fmt: skip
                codes = gr.Image(label="Code map", format="png", interactive=False,
                                 elem_id="codes", buttons=["download", "fullscreen"])  # fmt: skip
            usage = gr.HTML(elem_id="usage")
            kept = gr.State(None)

    def reconstruct(file: Uploaded | None, side: int, pair: str) -> Iterator[dict[Any, Any]]:
        try:
            if file is None:
                raise UsageError("no image; drop one, or choose a file")
            yield {said: notice("reconstructing ...")}
            shown = show_reconstruction(studio.pipe.tokenizer, file.image(), side=side)
        except ERRORS as problem:
            hidden = gr.update(visible=False)
            yield {said: failed(problem), numbers: EMPTY, usage: "", slider: hidden, parts: hidden}
            return
        yield {
            said: "",
            numbers: _numbers(shown),
            slider: gr.update(value=_compared(shown, pair), visible=True),
            parts: gr.update(visible=True),
            error: shown.error,
            codes: shown.code_map(),
            usage: _usage(shown),
            kept: shown,
        }

    outputs: list[Any] = [said, numbers, slider, parts, error, codes, usage, kept]
    inputs: list[Any] = [photo, side, pair]
    for event in (start.click, photo.upload, side.release):
        event(reconstruct, inputs, outputs, concurrency_id=MODEL, show_progress="hidden")
    pair.change(
        lambda shown, pair: gr.skip() if shown is None else _compared(shown, pair),
        [kept, pair], slider, queue=False, show_progress="hidden",
    )  # fmt: skip


EMPTY = (
    '<div class="stage"><div class="stage-empty"><span class="stage-mark"></span>'
    "<p>drop an image to see what the tokenizer keeps of it</p></div></div>"
)


def _compared(shown: Reconstruction, pair: str) -> tuple[Image.Image, Image.Image]:
    named = {"original": shown.image, "hybrid": shown.hybrid, "discrete": shown.discrete}
    before, _, after = pair.partition(" and ")
    return named[before], named[after]


def _numbers(shown: Reconstruction) -> str:
    """PSNR and bytes of both paths as cards."""
    hybrid = shown.index_bytes + shown.residual_bytes
    cards = (
        ("discrete", f"{shown.psnr_discrete:.2f} dB", f"{shown.index_bytes:,} bytes of indices"),
        ("hybrid", f"{shown.psnr_hybrid:.2f} dB", f"{hybrid:,} bytes, residual in fp16"),
        ("pixels", f"{shown.image.width} x {shown.image.height}", f"{shown.pixel_bytes:,} bytes"),
        ("tokens", "{1} x {0}".format(*shown.indices.shape), f"{len(shown.usage())} codes of "
         f"{shown.codebook_size:,} used"),
    )  # fmt: skip
    return '<div class="cards">' + "".join(
        f'<div class="card"><span>{escape(name)}</span><b>{escape(value)}</b>'
        f"<small>{escape(rest)}</small></div>"
        for name, value, rest in cards
    ) + "</div>"  # fmt: skip


def _usage(shown: Reconstruction) -> str:
    """How often each code is used: a bar each, the most frequent first, in the map's colors."""
    usage = shown.usage()
    most = usage[0][1]
    bars = "".join(
        f'<div class="bar"><i style="background:rgb{code_color(code)}"></i><span>{code}</span>'
        f'<div><b style="width:{100 * count / most:.0f}%;background:rgb{code_color(code)}"></b>'
        f"</div><em>{count}</em></div>"
        for code, count in usage[:SHOWN_CODES]
    )
    rest = len(usage) - SHOWN_CODES
    more = f"<p>and {rest} more, none of them more often</p>" if rest > 0 else ""
    return f'<div class="usage"><h4>How often each code is used</h4>{bars}{more}</div>'

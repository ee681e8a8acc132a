"""The tab *Generate*: a prompt to images, step by step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gradio as gr

from dcar.app.components import words
from dcar.app.run import ERRORS, MODEL, failed, results_column, run_series
from dcar.app.studio import MAX_IMAGES, MAX_SIDE, MAX_STEPS, Studio, settings_for
from dcar.pipeline.vocabulary import vocabulary_of
from dcar.sampling_config import Order

MAX_SEED = 2**31 - 1
EXAMPLE = "a photo of a red apple"


def generate_tab(studio: Studio) -> gr.Textbox:
    """Build the tab; returns the prompt."""
    own = studio.pipe.sampling
    height, width = studio.pipe.size
    known = vocabulary_of(studio.pipe)
    kinds = {} if known is None else known._asdict()
    # `colours` is the key of `--list-words --json`, which stays.
    kinds = {"colors" if name == "colours" else name: some for name, some in kinds.items()}
    with gr.Row(equal_height=False, elem_classes="work"):
        with gr.Column(scale=5, min_width=320, elem_classes="asked"):
            prompt = gr.Textbox(
                label="Prompt", value=EXAMPLE, lines=2, elem_id="prompt",
                autofocus=True,
                placeholder="what the image should show",
            )  # fmt: skip
            words({name: some for name, some in kinds.items() if some and name != "other"})
            with gr.Row(elem_classes="acts"):
                start = gr.Button("Generate", variant="primary", elem_id="generate", scale=3)
                stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)
            with gr.Column(elem_classes="later"):
                count = gr.Slider(1, MAX_IMAGES, 1, step=1, label="Images", elem_id="count")
                with gr.Row():
                    order = gr.Dropdown(
                        [order.value for order in Order], value=own.order.value, label="Order",
                        min_width=130, elem_id="order",
                    )  # fmt: skip
                    steps = gr.Slider(
                        1, MAX_STEPS, own.num_steps, step=1, label="Steps", min_width=150,
                        elem_id="steps",
                    )  # fmt: skip
                with gr.Row():
                    guidance = gr.Slider(
                        0, 10, own.cfg_scale, step=0.1, label="Guidance", min_width=150,
                        elem_id="guidance",
                    )  # fmt: skip
                    temperature = gr.Slider(
                        0, 10, own.temperature, step=0.1, label="Temperature", min_width=150,
                    )  # fmt: skip
                with gr.Row():
                    wide, high = (
                        gr.Slider(
                            studio.patch, MAX_SIDE, length, step=studio.patch, label=label,
                            min_width=150, elem_id=label.lower(),
                        )
                        for label, length in (("Width", width), ("Height", height))
                    )  # fmt: skip
                with gr.Row(elem_classes="seeds"):
                    seed = gr.Number(
                        0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, min_width=150,
                        elem_id="seed",
                    )  # fmt: skip
                    lock = gr.Checkbox(False, label="Lock the seed",
                                       min_width=150, elem_id="lock")  # fmt: skip
        with gr.Column(scale=7, min_width=320, elem_classes="made"):
            results = results_column("made", "the image appears here, token by token")

    def reseed(seed: int, lock: bool) -> int:
        return seed if lock else random.randrange(MAX_SEED)

    def generate(
        prompt: str, count: int, order: str, steps: int, guidance: float, temperature: float,
        width: int, height: int, seed: int, kept: list[str],
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        asked = settings_for(
            studio, num_steps=steps, cfg_scale=guidance, temperature=temperature, order=order
        )
        try:
            series, notes = studio.plan(
                prompt, seed=seed, num_images=count, size=(width, height), settings=asked
            )
            recipe = studio.recipe(series, prompt)
            yield from run_series(studio, results, series, notes, prompt, kept, recipe)
        except ERRORS as error:
            yield {results.said: failed(error), results.stage: {"frames": []}}

    asked = [prompt, count, order, steps, guidance, temperature, wide, high, seed, results.kept]
    for event in (start.click, prompt.submit):
        reseeded = event(reseed, [seed, lock], seed, queue=False, show_progress="hidden")
        running = reseeded.success(
            generate, asked, list(results), concurrency_id=MODEL, concurrency_limit=1,
            show_progress="hidden",
        )  # fmt: skip
        stop.click(
            lambda: {"frames": []}, None, results.stage, cancels=[running], queue=False,
            show_progress="hidden",
        )  # fmt: skip
    return prompt

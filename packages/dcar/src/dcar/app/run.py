"""One run in a tab: the state of a request while its images are generated, and its results."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from dcar.app.components import notice, stage
from dcar.app.recipes import Recipe
from dcar.app.studio import Studio
from dcar.pipeline.series import ImageSeries
from dcht.errors import CheckpointError, UsageError

MODEL = "model"
"""The queue that every use of the networks waits in: one at a time."""
MAX_GALLERY = 48
"""Images that a window keeps on show."""


class Results(NamedTuple):
    """The components that a run fills."""

    stage: gr.HTML
    said: gr.HTML
    gallery: gr.Gallery
    download: gr.DownloadButton
    command: gr.Code
    python: gr.Code
    kept: gr.State
    """The files in the gallery, newest first."""


def results_column(name: str, hint: str) -> Results:
    """The stage with the notice above it, the gallery and the recipes below, in this order."""
    said = gr.HTML(elem_id=f"{name}-said")
    steps = stage(f"{name}-stage", hint)
    kept = gr.State([])
    gallery = gr.Gallery(
        label="Images so far", columns=4, height="auto", fit_columns=False,
        object_fit="contain",
        elem_id=f"{name}-gallery", visible=False, buttons=["download"], interactive=False,
    )  # fmt: skip
    download = gr.DownloadButton(
        "Download PNG with its record", visible=False, elem_id=f"{name}-download"
    )
    with gr.Accordion("Make it again", open=False, elem_id=f"{name}-again"):
        command = gr.Code(
            label="Copy as command", language="shell", interactive=False, lines=2,
            wrap_lines=True, buttons=["copy"], show_line_numbers=False, elem_id=f"{name}-command",
        )  # fmt: skip
        python = gr.Code(
            label="Copy as Python", language="python", interactive=False, lines=4,
            wrap_lines=True, buttons=["copy"], show_line_numbers=False, elem_id=f"{name}-python",
        )  # fmt: skip

    def choose(kept: list[str], event: gr.SelectData) -> Any:
        return gr.update(value=kept[event.index])

    gallery.select(choose, kept, download, queue=False, show_progress="hidden")
    return Results(steps, said, gallery, download, command, python, kept)


def failed(error: Exception) -> str:
    """An error that a visitor can act on, as a notice."""
    return notice(str(error), kind="error")


ERRORS = (UsageError, CheckpointError)


def run_series(
    studio: Studio,
    results: Results,
    series: ImageSeries,
    notes: list[str],
    prompt: str,
    kept: list[str],
    recipe: Recipe,
) -> Generator[dict[Any, Any], None, list[Path]]:
    """The updates of `results` while a series is generated; returns the files."""
    total = series.settings.num_steps + 1
    yield {
        results.said: notice(notes),
        results.stage: {"frames": [], "total": total, "running": True, "waiting": True},
    }
    images = []
    for progress in studio.run(series):
        images = progress.images
        shown = {"frames": progress.frames, "total": total, "running": not progress.done}
        yield {results.stage: shown}
    paths = studio.save(series, images, prompt=prompt)
    files = [str(path) for path in paths]
    kept = [*files, *kept][:MAX_GALLERY]
    yield {
        results.kept: kept,
        results.gallery: gr.update(value=kept, visible=True),
        results.download: gr.update(value=files[0], visible=True),
        results.command: recipe.command(),
        results.python: recipe.python(),
    }
    return paths

"""Every picture of docs/gallery.md and docs/editing.md, by the bundled checkpoint.

    dcar-eval scenes-eval --out RUN
    python docs/gallery.py RUN

Nobody chooses: the prompts follow from the checkpoint's objects, every picture is the first that
came, with seed 0. RUN is the benchmark of the same checkpoint, from which the failures are taken.
Writes gallery.txt and pictures/ beside this file.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import torch
from PIL import Image

from dcar import TextToImage
from dcar.generate import Plan, generate_film, generate_sheet
from dcar_eval.failures import write_failures
from dcar_eval.results import RESULTS
from dcar_eval.scenes.captions import captions, plural, with_article
from dcar_eval.scenes.evaluate import IMAGES, ROWS, draw_prompts, known_objects
from dcar_eval.scenes.world import COLOURS, Scene, SceneObject, Task
from dcht.images import grid, save_png

FIRST = "a photo of a red apple"
"""The README's."""
FAILURES_PER_TASK = 6


def object_prompts(objects: Sequence[str]) -> list[str]:
    """Each object once, in alphabetical order, in GenEval's ten colours in their order."""
    pairs = zip(sorted(objects), cycle(COLOURS), strict=False)
    things = [SceneObject(name=name, colour=colour) for name, colour in pairs]
    return [captions(Scene(task=Task.COLORS, objects=(thing,)))[0] for thing in things]


def task_prompts(objects: tuple[str, ...]) -> list[str]:
    """The first held-out prompt that the benchmark asks in each of its six tasks."""
    return [row["prompt"] for row in draw_prompts(objects, num_per_task=1, seed=0)]


def outside_prompts(objects: Sequence[str]) -> list[str]:
    """What no checkpoint of this world has seen: other words, more of one, three at a time."""
    first, second, third, *_ = (SceneObject(name=name) for name in sorted(objects))
    together = f"{with_article(first)}, {with_article(second)} and {with_article(third)}"
    return ["a castle at night", f"five {plural(first.name)}", together]


def draw_all(pipe: TextToImage, run: Path, folder: Path) -> None:
    """Write gallery.txt and every picture into a folder.

    Raises:
        ValueError: `run` is the benchmark of another checkpoint.
    """
    objects, pictures = known_objects(pipe), folder / "pictures"
    asked = task_prompts(objects)
    prompts = object_prompts(objects) + asked
    _write_failures(pipe, run, pictures / "failures.png")
    (folder / "gallery.txt").write_text("".join(f"{prompt}\n" for prompt in prompts))
    generate_sheet(pipe, _plan(pipe, prompts), pictures / "gallery.png", force=True)
    generate_film(pipe, _plan(pipe, [FIRST]), pictures / "film.gif", force=True)
    save_png(grid(pipe(outside_prompts(objects)).images, columns=3), pictures / "outside.png")
    save_png(_paths(pipe, asked), pictures / "paths.png")
    save_png(_sizes(pipe, asked[::2]), pictures / "sizes.png")
    save_png(_edits(pipe), pictures / "editing.png")


def _plan(pipe: TextToImage, prompts: list[str]) -> Plan:
    """What `dcar generate` does with these prompts and no other option."""
    height, width = pipe.size
    return Plan(
        prompts=prompts,
        verdicts=[None] * len(prompts),
        seed=0,
        height=height,
        width=width,
        settings=pipe.sampling,
        batch_size=8,
    )


def _write_failures(pipe: TextToImage, run: Path, path: Path) -> None:
    """The first pictures of each task that the benchmark judged wrong."""
    weights = json.loads((run / RESULTS).read_text())["settings"]["weights"]
    if weights != pipe.sha256:
        raise ValueError(f"{run} judged the weights {weights}, these are {pipe.sha256}")
    wrong = defaultdict(list)
    for line in (run / ROWS).read_text().splitlines():
        row = json.loads(line)
        if not row["correct"]:
            wrong[row["tag"]].append(row)
    shown = [row for rows in wrong.values() for row in rows[:FAILURES_PER_TASK]]
    path.unlink(missing_ok=True)  # of another checkpoint, where this one fails nowhere
    write_failures(path, shown, run / IMAGES)


def _paths(pipe: TextToImage, prompts: list[str]) -> Image.Image:
    """The same indices decoded twice: above without the residual, below with it."""
    *_, discrete, hybrid = pipe.stream(prompts)
    assert torch.equal(discrete.indices, hybrid.indices)
    return grid(discrete.images + hybrid.images, columns=len(prompts))


def _sizes(pipe: TextToImage, prompts: list[str]) -> Image.Image:
    """The checkpoint's size, each pixel shown as four; below it twice that size."""
    height, width = (2 * side for side in pipe.size)
    small = [
        image.resize((width, height), Image.Resampling.NEAREST) for image in pipe(prompts).images
    ]
    large = pipe(prompts, height=height, width=width).images
    return grid(small + large, columns=len(prompts))


def _edits(pipe: TextToImage) -> Image.Image:
    """The five of docs/editing.md: picture, mask, edit, variation, outpainting."""
    height, width = pipe.size
    (photo,) = pipe(FIRST).images
    mask = Image.new("L", photo.size)
    mask.paste(255, (width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    margin = width // 4
    shown = [
        photo,
        mask,
        *pipe.edit(photo, mask, "a photo of a blue car").images,
        *pipe.edit(photo, None, "a photo of an orange banana", strength=0.5).images,
        *pipe.outpaint(photo, FIRST, left=margin, right=margin).images,
    ]
    gap = 4
    row = Image.new("RGB", (sum(image.width + gap for image in shown) - gap, height), "white")
    left = 0
    for image in shown:
        row.paste(image, (left, 0))
        left += image.width + gap
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the pictures of the documents.")
    parser.add_argument("run", metavar="RUN", type=Path, help="a finished dcar-eval scenes-eval")
    draw_all(TextToImage.from_pretrained(), parser.parse_args().run, Path(__file__).parent)

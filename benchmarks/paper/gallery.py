"""The page docs/gallery.md with its images, and that of docs/editing.md.

    dcar-eval scenes-eval --out RUN
    python benchmarks/paper/gallery.py RUN

Nobody chooses: the prompts follow from what the bundled checkpoint knows, every image is the first
that came, with seed 0. RUN is the benchmark of the same checkpoint, from which the failures are
taken. Writes gallery.md, gallery.txt and pictures/ in docs/
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import torch
from PIL import Image

from dcar import TextToImage
from dcar.commands.common import word_advice
from dcar.pipeline.notes import prompt_notes
from dcar.pipeline.series import ImageSeries, generate_film, generate_sheet
from dcar.pipeline.vocabulary import vocabulary_of
from dcar_eval.hard.prompts import prompts as asked_of_the_harder
from dcar_eval.runs.failures import write_failures
from dcar_eval.runs.results import RESULTS
from dcar_eval.scenes.captions import captions, plural
from dcar_eval.scenes.evaluate import ROWS
from dcar_eval.scenes.given import IMAGES
from dcar_eval.scenes.prompts import known_objects, sample_prompts
from dcar_eval.scenes.world import COLORS, Scene, SceneObject, Task
from dcht.images import grid, save_png

FIRST = "a photo of a red apple"
"""The README's."""
EVERY = 13
"""Names to one of the gallery's, so that its images make a square."""
FAILURES_PER_TASK = 6
PAGE = """\
# Gallery

By the bundled checkpoint (SHA-256 {weights}),
seed 0, the first that came. Nobody chose: this page and its images are written by

```
dcar-eval scenes-eval --out RUN
python benchmarks/paper/gallery.py RUN
```

## Objects in colors, sentences, things

The {num_objects} objects of [the standard benchmark](scenes.md) in alphabetical order, in GenEval's
ten colors in their order; the first held-out prompt of each of the {num_hard} tasks of the harder
one; one in {every} of the {num_things} names that the checkpoint knows; and the first held-out
prompt of each of the standard one's six tasks.
`dcar generate --prompts docs/gallery.txt --grid --out gallery.png` draws the same.

![{count} images, {columns} a row, in the order of gallery.txt](pictures/gallery.png)

## Failures

The benchmark's overall score is {overall:.3f} on {num_judged} held-out prompts. The first
{per_task} images of each task that it judged wrong:

{failures}

## The unmasking

"{first}": {steps} steps, and the refinement by the residual.

![the unmasking, animated](pictures/film.gif)

## Discrete tokens, and the residual

The held-out prompts again. The same indices decoded: above `decode(z_q)`, below
`decode(z_q + residual)`.

![six images without the residual over the same six with it](pictures/paths.png)

## {width} px beside {double} px

Every second of them: above {width} px, each pixel shown as four, below `--size {double}`.

![three images of {width} px over three of {double} px](pictures/sizes.png)

## Outside its world

{outside}. They make `dcar generate` say:

> {line}

Only words are checked: known words in a sentence of another kind are drawn without a warning.

![three images](pictures/outside.png)

Edits: [Editing](editing.md).
"""


def object_prompts(objects: Sequence[str]) -> list[str]:
    """Each object once, in alphabetical order, in GenEval's ten colors in their order."""
    pairs = zip(sorted(objects), cycle(COLORS), strict=False)
    things = [SceneObject(name=name, color=color) for name, color in pairs]
    return [captions(Scene(task=Task.COLORS, objects=(thing,)))[0] for thing in things]


def thing_prompts(names: Sequence[str]) -> list[str]:
    """One of so many names in alphabetical order, as it comes."""
    things = [SceneObject(name=name) for name in sorted(names)[::EVERY]]
    return [captions(Scene(task=Task.SINGLE, objects=(thing,)))[0] for thing in things]


def hard_prompts() -> list[str]:
    """The first held-out prompt of each task of the harder benchmark."""
    return [row["prompt"] for row in asked_of_the_harder(1) if not row["seen"]]


def task_prompts(objects: tuple[str, ...]) -> list[str]:
    """The first held-out prompt that the benchmark asks in each of its six tasks."""
    asked = sample_prompts(objects, num_per_task=1, seed=0)
    return [prompt.metadata["prompt"] for prompt in asked]


def outside_prompts(objects: Sequence[str]) -> list[str]:
    """What no checkpoint of this world has seen: a time of day, more of one, what somebody does."""
    return [
        "a castle at night",
        f"seven {plural(min(objects))}",
        "a photo of an astronaut riding a horse",
    ]


def generate_all(pipe: TextToImage, run: Path, folder: Path) -> None:
    """Write the page, its prompts and its images into a folder.

    Raises:
        ValueError: `run` is the benchmark of another checkpoint.
    """
    if not (run / RESULTS).exists():
        raise SystemExit(f"{run} has no {RESULTS}; `dcar-eval scenes-eval --out {run}` writes it")
    benchmark = json.loads((run / RESULTS).read_text())
    if (weights := benchmark["settings"]["weights"]) != pipe.sha256:
        raise ValueError(f"{run} judged the weights {weights}, these are {pipe.sha256}")
    objects, images = known_objects(pipe), folder / "pictures"
    asked, outside = task_prompts(objects), outside_prompts(objects)
    known = vocabulary_of(pipe)
    assert known is not None  # the bundled one reads words of its own
    sentences = hard_prompts()
    prompts = object_prompts(objects) + sentences + thing_prompts(known.things) + asked
    (folder / "gallery.txt").write_text("".join(f"{prompt}\n" for prompt in prompts))
    _write_failures(run, images / "failures.png")
    generate_sheet(pipe, _plan(pipe, prompts), images / "gallery.png", force=True)
    generate_film(pipe, _plan(pipe, [FIRST]), images / "film.gif", force=True)
    save_png(_paths(pipe, asked), images / "paths.png")
    save_png(_sizes(pipe, asked[::2]), images / "sizes.png")
    save_png(grid(pipe(outside).images, columns=len(outside)), images / "outside.png")
    save_png(_edits(pipe), images / "editing.png")
    failures = "![the images, each with its prompt and what was found](pictures/failures.png)"
    page = PAGE.format(
        weights=pipe.sha256,
        every=EVERY,
        num_things=len(known.things),
        num_hard=len(sentences),
        num_objects=len(objects),
        count=len(prompts),
        columns=math.ceil(math.sqrt(len(prompts))),
        overall=benchmark["overall"],
        num_judged=benchmark["n"],
        per_task=FAILURES_PER_TASK,
        failures=failures if (images / "failures.png").exists() else "None.",
        first=FIRST,
        steps=pipe.sampling.num_steps,
        width=pipe.size[1],
        double=2 * pipe.size[1],
        outside=", ".join(f'"{prompt}"' for prompt in outside),
        line=" ".join(prompt_notes(pipe, pipe.screen(outside), advice=word_advice(pipe))),
    )
    (folder / "gallery.md").write_text(page)


def _plan(pipe: TextToImage, prompts: list[str]) -> ImageSeries:
    """What `dcar generate` does with these prompts and no other option."""
    height, width = pipe.size
    return ImageSeries(
        prompts=prompts,
        verdicts=[None] * len(prompts),
        seed=0,
        height=height,
        width=width,
        settings=pipe.sampling,
        batch_size=8,
    )


def _write_failures(run: Path, path: Path) -> None:
    """The first images of each task that the benchmark judged wrong."""
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
    """The five of docs/editing.md: image, mask, edit, variation, outpainting."""
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
    parser = argparse.ArgumentParser(description="Draw the images of the documents.")
    parser.add_argument("run", metavar="RUN", type=Path, help="a finished dcar-eval scenes-eval")
    generate_all(
        TextToImage.from_pretrained(), parser.parse_args().run, Path(__file__).parents[2] / "docs"
    )

"""Where the images come from: a folder of anyone's, or a checkpoint that generates them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcar.pipeline import TextToImage
from dcar.pipeline.series import ImageSeries, write_images
from dcar.pipeline.settings import Settings
from dcar_eval.geneval.layout import METADATA, Sample, list_folder, list_table, samples_folder
from dcar_eval.geneval.prompts import SAMPLES, TASKS, lines, metadata
from dcht.checkpoint import to_dict
from dcht.data.entries import Entry, file_entry
from dcht.errors import UsageError
from dcht.files import write_atomic

IMAGES = "images"


@dataclass(frozen=True, kw_only=True)
class SampleSource:
    """The images of some prompts."""

    prompts: list[int]
    """Lines of the prompt file, from 0."""
    samples: list[Sample]
    settings: dict[str, Any]
    """What the images depend on."""
    folder: Path | None = None
    """Where they are; None: in `images/` of the output, once `generate` was called."""
    given: list[Entry] = field(default_factory=list)
    """Those that are there already, in order."""
    generate: Callable[[Path, Sequence[int], bool], None] | None = None
    """Writes the images of some prompts into a folder of the benchmark's layout; the last argument
    says whether to replace what is there."""
    rewritten: list[int] = field(default_factory=list)
    """Prompts whose words are not the benchmark's."""


def choose_prompts(num_per_task: int | None) -> list[int]:
    """The first prompts of each task, all with None: lines of the prompt file."""
    tags = [row["tag"] for row in metadata()]
    starts = [tags.index(task) for task in TASKS]
    ends = [start + tags.count(task) for start, task in zip(starts, TASKS, strict=True)]
    if num_per_task is not None:
        ends = [min(start + num_per_task, end) for start, end in zip(starts, ends, strict=True)]
    return [p for start, end in zip(starts, ends, strict=True) for p in range(start, end)]


def given_images(folder: Path, prompts: list[int]) -> SampleSource:
    """Images that are there already, in a folder or named by a table.

    Raises:
        UsageError: the folder is not laid out as the benchmark's, or holds none of the prompts.
    """
    if folder.is_dir():
        found = list_folder(folder, metadata(), prompts)
    else:
        found, folder = list_table(folder, metadata(), prompts), folder.parent
    if not found.samples:
        raise UsageError(f"{folder} has no image of the {len(prompts)} prompts that are asked for")
    return SampleSource(
        prompts=prompts,
        samples=found.samples,
        settings={"images": len(found.samples), "rewritten": found.rewritten},
        folder=folder,
        given=[file_entry(str(folder / sample.name), sample.name) for sample in found.samples],
        rewritten=found.rewritten,
    )


def generated_images(
    pipe: TextToImage,
    prompts: list[int],
    *,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    sampling: Settings | None = None,
) -> SampleSource:
    """Four images of each prompt by a checkpoint, the four in one batch.

    Image k of prompt p has number 4 p + k of `seed`, whichever others are generated: a batch is
    a prompt's, so parts of the benchmark give the same images as the whole.

    Args:
        pipe: the model.
        prompts: lines of the prompt file.
        seed: of the noise; not negative.
        size: (height, width); None: the checkpoint's.
        sampling: settings in place of the checkpoint's.

    Raises:
        UsageError: settings out of range.
    """
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; 0 or more")
    height, width = size or pipe.size
    chosen = pipe.settings(**(sampling or {}))
    rows, texts = metadata(), lines()

    def generate(out: Path, wanted: Sequence[int], force: bool) -> None:
        plans = []
        for prompt in wanted:
            folder = out / samples_folder(prompt)
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder.parent / METADATA, f"{texts[prompt]}\n".encode())
            plan = ImageSeries(
                prompts=[rows[prompt]["prompt"]] * SAMPLES,
                verdicts=[None] * SAMPLES,
                seed=seed,
                height=height,
                width=width,
                settings=chosen,
                batch_size=SAMPLES,
                first_index=SAMPLES * prompt,
            )
            plans.append((plan, [out / sample.name for sample in _of(prompt)]))
        write_images(pipe, plans, force=force)

    return SampleSource(
        prompts=prompts,
        samples=[sample for prompt in prompts for sample in _of(prompt)],
        settings={
            **pipe.identity,
            "seed": seed,
            "size": [width, height],
            "sampling": to_dict(chosen),
        },
        generate=generate,
    )


def _of(prompt: int) -> list[Sample]:
    return [Sample(prompt, f"{samples_folder(prompt)}/{k:05d}.png") for k in range(SAMPLES)]

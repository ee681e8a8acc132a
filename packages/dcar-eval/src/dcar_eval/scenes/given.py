"""Images that are there already, an earlier run's or anybody's, numbered as their prompts are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcar_eval.given.pairs import numbered
from dcar_eval.runs.results import RESULTS, SETTINGS
from dcar_eval.scenes.judge import SIDES
from dcar_eval.scenes.world import BENCHMARK, WORLDS
from dcht.errors import UsageError
from dcht.images import ImageError, open_image

IMAGES = "images"
"""Folder of a run that holds its images."""


@dataclass(frozen=True, kw_only=True)
class GivenImages:
    """Images of the prompts of a seed."""

    files: list[Path]
    objects: tuple[str, ...]
    num_per_task: int
    seed: int


def sha256_of(files: Sequence[Path]) -> str:
    """Of the files' contents, one after the other."""
    found = hashlib.sha256()
    for file in files:
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def find_images(
    folder: Path,
    *,
    num_per_task: int,
    seed: int,
    objects: tuple[str, ...] | None,
    truths: bool,
) -> GivenImages:
    """The images of a folder, `00000.png` and on (or `.jpg`, ...), one for each prompt.

    Args:
        folder: where they are; of an earlier run, its `images`.
        num_per_task: prompts of each task.
        seed: of the prompts.
        objects: what the prompts are about; an earlier run knows. None: those of `wide`.
        truths: whether the images will be held against true scenes.

    Raises:
        UsageError: an image is missing, damaged, not square or one too many, or the folder is of
            a run with other prompts.
    """
    objects = find_objects(folder, num_per_task=num_per_task, seed=seed, objects=objects)
    count = num_per_task * len(BENCHMARK)
    return GivenImages(
        files=find_numbered(folder, count, num_per_task, truths=truths),
        objects=objects,
        num_per_task=num_per_task,
        seed=seed,
    )


def find_objects(
    folder: Path, *, num_per_task: int, seed: int, objects: tuple[str, ...] | None
) -> tuple[str, ...]:
    """What the prompts of a folder's images are about; the arguments are `find_images`'.

    Raises:
        UsageError: the folder is of a run with other prompts.
    """
    known = run_of(folder, "standard")
    for key, value in (("seed", seed), ("num_per_task", num_per_task)):
        if known.get(key, value) != value:
            raise UsageError(f"{folder} is of a run with {key} {known[key]}, not {value}")
    if "objects" in known:
        if objects is not None and list(objects) != known["objects"]:
            raise UsageError(f"{folder} is of a run that knows its objects; leave --objects out")
        objects = tuple(known["objects"])
    return objects or tuple(sorted(WORLDS["wide"]))


def find_numbered(
    folder: Path, count: int, num_per_task: int, *, truths: bool = False
) -> list[Path]:
    """The images 00000 to `count` - 1 of a folder.

    Args:
        folder: where they are.
        count: images that are asked for.
        num_per_task: prompts of each task that these are.
        truths: whether they will be held against true scenes.

    Raises:
        UsageError: an image is missing, damaged, not square or one too many.
    """
    found = numbered(folder, [path.name for path in folder.iterdir()])
    files = [folder / found.get(index, f"{index:05d}.png") for index in range(count)]
    for file in files:
        _check(file, truths=truths)
    if more := [name for number, name in found.items() if number >= count]:
        raise UsageError(
            f"{folder / more[0]} is one image too many: {num_per_task} of a task are {count}"
        )
    return files


def run_of(folder: Path, benchmark: str) -> dict[str, Any]:
    """The settings of the run of a benchmark that drew a folder's images; empty where none did.

    Raises:
        UsageError: there is no such folder, or it is of another benchmark's run.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder of images")
    # As it is named, for a run whose images lie elsewhere behind a link; and where it is, for a
    # link to a run's images, and for `.`, which has neither name nor parent.
    for place in (folder, folder.resolve()):
        known = _settings_beside(place)
        if known and (other := known.get("benchmark", "standard")) != benchmark:
            raise UsageError(
                f"{folder} is of a run of --benchmark {other}, whose prompts are not those of "
                f"{benchmark}; its score is in {place.parent / RESULTS}"
            )
        if known:
            return known
    return {}


def _settings_beside(folder: Path) -> dict[str, Any]:
    """The settings of the run whose `images` a folder is by its path; empty for any other."""
    if folder.name != IMAGES:
        return {}
    try:
        known = json.loads((folder.parent / SETTINGS).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and "recognizer_sha256" in known else {}


def _check(file: Path, *, truths: bool) -> None:
    try:
        image = open_image(file)
    except ImageError as error:
        raise UsageError(f"{file}: {error}; one image is needed for each prompt") from None
    if image.width != image.height:
        raise UsageError(f"{file}: scenes are square, not {image.width} x {image.height}")
    if truths and image.width % SIDES:
        raise UsageError(
            f"{file} is {image.width} px wide; beside true scenes a side is a multiple of {SIDES}"
        )

"""Where the images of a benchmark of questions come from: a folder or table, or a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from dcar.pipeline import TextToImage
from dcar.pipeline.series import ImageSeries, write_images
from dcar.pipeline.settings import Settings
from dcar_eval.given.pairs import Paired, find_pairs
from dcar_eval.vqa.questions import Benchmark, Item
from dcht.checkpoint import to_dict
from dcht.data.entries import Entry, file_entry
from dcht.errors import UsageError

IMAGES = "images"


class Asked(NamedTuple):
    """An image that is asked about."""

    key: str
    """Of its item."""
    name: str
    """Path in the folder of all images."""
    quarter: int | None = None
    """Which quarter of a grid of 2 x 2 it is, row by row; None: the whole."""

    @property
    def label(self) -> str:
        """What rows call it."""
        return self.name if self.quarter is None else f"{self.name}#{self.quarter}"

    def cut(self, image: Image.Image) -> Image.Image:
        """Its part of the file's image."""
        if self.quarter is None:
            return image
        width, height = image.width // 2, image.height // 2
        left, top = self.quarter % 2 * width, self.quarter // 2 * height
        return image.crop((left, top, left + width, top + height))


@dataclass(frozen=True, kw_only=True)
class AskedSource:
    """The images of some items."""

    items: list[Item]
    images: list[Asked]
    settings: dict[str, Any]
    """What the images depend on."""
    folder: Path | None = None
    """Where they are; None: in `images/` of the output, once `generate` was called."""
    given: list[Entry] = field(default_factory=list)
    generate: Callable[[Path, Sequence[str], bool], None] | None = None
    """Writes the images of some keys into a folder; the last argument says whether to replace."""


def given_images(
    place: Path, benchmark: Benchmark, items: list[Item], *, grids: bool = False
) -> AskedSource:
    """Images that are there already, in a folder or named by a table.

    Args:
        place: the folder or table.
        benchmark: whose items these are.
        items: some of its items.
        grids: whether each file is a grid of 2 x 2 images of its prompt.

    Raises:
        UsageError: none of the items has an image there, or it is neither folder nor table.
    """
    every = find_pairs(place, {item.key: item.prompt for item in benchmark.items})
    wanted = {item.key for item in items}
    found = [image for image in every.images if image.key in wanted]
    if not found:
        raise UsageError(f"{place} has no image of the {len(items)} prompts that are asked for")
    quarters = range(4) if grids else [None]
    return AskedSource(
        items=items,
        images=[Asked(image.key, image.name, part) for image in found for part in quarters],
        settings={"images": len(found), "grids": grids},
        folder=every.folder,
        given=[file_entry(str(every.folder / image.name), image.name) for image in found],
    )


def generated_images(
    pipe: TextToImage,
    benchmark: Benchmark,
    items: list[Item],
    *,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    sampling: Settings | None = None,
) -> AskedSource:
    """The benchmark's number of images of each item by a checkpoint, those of an item in one batch.

    Image k of prompt p, of n each, has number n p + k of `seed`, whichever others are generated.

    Args:
        pipe: the model.
        benchmark: whose items these are.
        items: some of its items.
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
    each = benchmark.images
    numbers = {item.key: number for number, item in enumerate(benchmark.items)}

    def generate(out: Path, keys: Sequence[str], force: bool) -> None:
        plans = []
        for key in keys:
            plan = ImageSeries(
                prompts=[benchmark.items[numbers[key]].prompt] * each,
                verdicts=[None] * each,
                seed=seed,
                height=height,
                width=width,
                settings=chosen,
                batch_size=each,
                first_index=each * numbers[key],
            )
            files = [out / image.name for image in _of(key, each)]
            files[0].parent.mkdir(parents=True, exist_ok=True)
            plans.append((plan, files))
        write_images(pipe, plans, force=force)

    return AskedSource(
        items=items,
        images=[Asked(image.key, image.name) for item in items for image in _of(item.key, each)],
        settings={
            **pipe.identity,
            "seed": seed,
            "size": [width, height],
            "sampling": to_dict(chosen),
        },
        generate=generate,
    )


def _of(key: str, each: int) -> list[Paired]:
    if each == 1:
        return [Paired(key, f"{key}.png")]
    return [Paired(key, f"{key}/{number:05d}.png") for number in range(each)]

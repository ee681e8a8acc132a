"""Images and their captions as the sets of the field lay them out on disk."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, assert_never

from dcar.train_config import DataKind
from dcht.data.captions import decode_text
from dcht.data.entries import Entry, file_entry
from dcht.data.labels import LABEL
from dcht.data.sources import list_inputs
from dcht.errors import UsageError
from dcht.files import open_regular, parse_json, read_lines

SYNSETS = "LOC_synset_mapping.txt"
IMAGENET_TRAIN = "ILSVRC/Data/CLS-LOC/train"
JOURNEYDB_ROWS, JOURNEYDB_IMAGES = "*_repath.jsonl", "imgs"


class ImageEntry(NamedTuple):
    """An image with its row: `file`, captions, other fields."""

    entry: Entry
    row: dict[str, Any]


class ImageSet(NamedTuple):
    """What can be used of a set, and a sentence on what cannot."""

    images: list[ImageEntry]
    notes: list[str]


def list_images(root: str, kind: DataKind, *, follow_links: bool = False) -> ImageSet:
    """The images of a set, sorted by name.

    `folder` and `webdataset` are what `dcht encode` reads: files or tar archives with `.txt` and
    `.json` beside each image, Parquet, a list, a pattern, or `hf://user/name`. `imagenet` is
    Kaggle's download, or a folder a class. `journeydb` is the folder of one of its splits:
    `*_repath.jsonl` and `imgs/`.

    Raises:
        UsageError: the set is not there or holds nothing that can be used.
    """
    match kind:
        case DataKind.imagenet:
            found = _list_imagenet(Path(root), follow_links)
        case DataKind.journeydb:
            found = _list_journeydb(Path(root))
        case DataKind.folder | DataKind.webdataset:
            found = (_with_row(entry) for entry in list_inputs(root, follow_links=follow_links))
        case DataKind.latents:
            raise UsageError(f"{root} is a store of latents, which holds no images")
        case _:
            assert_never(kind)
    good, bad = [], []
    for image in found:
        (bad if image.entry.problem else good).append(image)
    if not good:
        reason = f": {bad[0].entry.problem}" if bad else ""
        raise UsageError(f"{root} holds no images that can be used{reason}")
    if not bad:
        return ImageSet(good, [])
    first = bad[0].entry
    note = f"{root}: {len(bad)} left out, for instance {first.name}: {first.problem}"
    return ImageSet(good, [note])


def _with_row(entry: Entry) -> ImageEntry:
    """An input with its captions; where they cannot be read it is one with a problem."""
    if not entry.problem:
        try:
            return ImageEntry(entry, entry.row())
        except UsageError as error:
            entry = Entry(entry.name, problem=str(error))
    return ImageEntry(entry, {"file": entry.name})


def _list_imagenet(root: Path, follow_links: bool) -> Iterator[ImageEntry]:
    """Captions are `a photo of a NAME`, one for each name of the class; the first is the label.

    # not in paper: it trains the tokenizer on ImageNet, which needs no captions.
    """
    names: dict[str, list[str]] = {}
    if (root / SYNSETS).exists():
        text = decode_text(str(root / SYNSETS), (root / SYNSETS).read_bytes())
        for line in text.splitlines():
            synset, _, words = line.partition(" ")
            names[synset] = [name.strip() for name in words.split(",") if name.strip()]
    # Two cranes: a bird and a machine.
    firsts = Counter(known[0] for known in names.values() if known)
    images = root / IMAGENET_TRAIN
    for entry in list_inputs(images if images.is_dir() else root, follow_links=follow_links):
        folder = posixpath.basename(posixpath.dirname(entry.name))
        known = names.get(folder) or [folder.replace("_", " ")]
        captions = [f"a photo of {_article(name)} {name}" for name in known if name]
        label = known[0] if firsts[known[0]] < 2 else f"{known[0]} ({folder})"
        yield ImageEntry(entry, {"file": entry.name, "captions": captions, LABEL: label})


def _article(name: str) -> str:
    return "an" if name[0].lower() in "aeiou" else "a"


def _list_journeydb(root: Path) -> Iterator[ImageEntry]:
    """Captions are the prompt and, where there is one, the caption that GPT-3.5 made of it."""
    tables = sorted(root.glob(JOURNEYDB_ROWS))
    if len(tables) != 1:
        raise UsageError(
            f"{root} holds {len(tables)} files {JOURNEYDB_ROWS}; expected the one of a split of "
            f"JourneyDB, beside {JOURNEYDB_IMAGES}/"
        )
    with open_regular(tables[0]) as file:
        images = [
            _journeydb_image(root, f"{tables[0].name} line {number}", line)
            for number, line in enumerate(read_lines(file), start=1)
        ]
    yield from sorted(images, key=lambda image: image.entry.name)


def _journeydb_image(root: Path, place: str, line: bytes) -> ImageEntry:
    try:
        fields = parse_json(line, place)
        name = posixpath.normpath(fields["img_path"])
        captions = [fields.get("prompt"), (fields.get("Task2") or {}).get("Caption")]
    except (UsageError, KeyError, TypeError, AttributeError):
        return ImageEntry(Entry(place, problem="not a row of JourneyDB"), {"file": place})
    entry = file_entry(os.path.join(root, JOURNEYDB_IMAGES, name), name)
    return ImageEntry(entry, {"file": name, "captions": [text for text in captions if text]})

"""Scenes on disk, laid out as any training set: image, `.txt` of captions, `.json` of the truth."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from dcar_eval.runs.results import alone, differing
from dcar_eval.scenes.backgrounds import sample_background
from dcar_eval.scenes.captions import captions
from dcar_eval.scenes.grid import CELLS, arrange, on_grid
from dcar_eval.scenes.layout import Layout, box_of, render_layout
from dcar_eval.scenes.sample import sample_scene
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import (
    PLAIN,
    Scene,
    SceneObject,
    Split,
    Task,
)
from dcht.errors import UsageError
from dcht.files import read_json, remove_partials, require_unused, write_atomic

MANIFEST = "scenes.json"
CHUNK = 1000
"""Scenes a folder or a tar holds; also what is written whole or not at all."""
QUALITY = 95
"""JPEG, chroma kept at full size: an eighth of a PNG, and flat colors survive."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the images of a folder depend on: image k is a function of these and k alone."""

    objects: tuple[str, ...]
    size: int
    seed: int
    split: str
    webdataset: bool
    backgrounds: str = "plain"
    task: str | None = None
    """None: all of them, by their weights."""
    grammar: str = "standard"
    styles: tuple[str, ...] = (PLAIN,)
    arranged: bool = False
    """Of the harder grammar."""


@dataclass(frozen=True)
class Example:
    """An image, its captions (GenEval's wording first) and its ground truth."""

    layout: Layout
    image: Image.Image
    captions: list[str]
    truth: dict[str, Any]


def make_example(
    index: int, settings: Settings, sprites: Sprites, task: Task | None = None
) -> Example:
    """Image `index` of the data set, or of those of another task than the settings'."""
    split = Split(settings.split)
    rng = np.random.default_rng([settings.seed, index, list(Split).index(split)])
    if task is None and settings.task is not None:
        task = Task(settings.task)
    scene = sample_scene(settings.objects, split, rng, task)
    background = sample_background(scene, rng, settings.backgrounds)
    layout = on_grid(scene, arrange(scene), background, settings.size)
    texts = captions(scene)
    truth = geneval_metadata(scene, texts[0]) | {
        "split": settings.split,
        "background": background,
        "objects": [
            {"class": thing.name, "colour": thing.color, "box": list(box_of(thing, sprites))}
            for thing in layout.objects
        ],
    }
    return Example(layout, render_layout(layout, sprites), texts, truth)


MakeExample = Callable[[int, Settings, Sprites], Example]
"""Makes example number k of a data set; each grammar has one."""


def geneval_metadata(scene: Scene, prompt: str) -> dict[str, Any]:
    """A scene as a row of GenEval's prompt file: tag, include, exclude, prompt."""
    first, *others = scene.objects
    row: dict[str, Any] = {"tag": scene.task.value}
    count = len(scene.objects)
    if others and others[0].name == first.name:
        row["include"] = [_clause(first, count)]
        row["exclude"] = [{"class": first.name, "count": count + 1}]
    elif scene.relation is not None:
        # The target comes first; the second stands in the relation to it.
        row["include"] = [
            _clause(others[0], 1),
            _clause(first, 1) | {"position": [scene.relation, 0]},
        ]
    else:
        row["include"] = [_clause(thing, 1) for thing in scene.objects]
    return row | {"prompt": prompt}


def _clause(thing: SceneObject, count: int) -> dict[str, Any]:
    color = {"color": thing.color} if thing.color else {}
    return {"class": thing.name, "count": count} | color


@alone
def write_scenes(
    sprites: str | Path,
    out: str | Path,
    *,
    num: int,
    settings: Settings,
    workers: int = 2,
    force: bool = False,
    make: MakeExample = make_example,
) -> int:
    """Write `num` scenes below `out`, in parts of 1,000; parts that are there are kept.

    `make` is the grammar's, a function that other processes can import.

    Returns:
        How many images were rendered now.

    Raises:
        UsageError: a size that the grid does not divide, less than one scene, a negative seed,
            sprites missing, no such scene among these objects, or `out` holds others.
    """
    out = Path(out)
    if num < 1:
        raise UsageError(f"{num} scenes cannot be written; 1 at least")
    if settings.seed < 0:
        raise UsageError(f"seed {settings.seed} is negative; 0 or more")
    if settings.size % (CELLS * 4) or settings.size < CELLS * 4:
        raise UsageError(f"size {settings.size} is not a multiple of {CELLS * 4}; 256 for example")
    # Before anything is written: are the sprites all there, and is there such a scene?
    art = open_sprites(str(sprites), settings.objects, settings.styles)
    make(0, settings, art)
    plan = json.loads(json.dumps(asdict(settings) | {"num": num}))
    plan["sprites_sha256"] = art.sha256()
    for late in ("task", "grammar", "styles", "arranged"):  # as it was before there was a choice
        if getattr(settings, late) == getattr(Settings, late):
            del plan[late]
    known = None if force else _read(out / MANIFEST)
    if known is None:
        require_unused(out, force=force)
    elif changed := differing(plan, known):
        old, new = known.get(changed[0]), plan.get(changed[0])
        raise UsageError(
            f"{out} holds scenes with {changed[0]} {old!r}, not {new!r}; use --force or another "
            "--out"
        )
    remove_partials(out)
    if force:
        for part in out.glob("part-*"):
            part.rename(out / f".{part.name}")  # at once, or a part of it could pass for the whole
    for left_over in out.glob(".part-*"):
        shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
    write_atomic(out / MANIFEST, json.dumps(plan, indent=1).encode() + b"\n")
    starts = [s for s in range(0, num, CHUNK) if not _part(out, s, settings).exists()]
    work = partial(_write_part, str(sprites), out, num=num, settings=settings, make=make)
    with tqdm(total=num, unit="scene", desc="scenes", disable=None) as progress:
        progress.update(num - sum(min(CHUNK, num - start) for start in starts))
        if workers > 1 and len(starts) > 1:
            # Spawned: a fork of a process that has threads (torch's) may hang.
            with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
                for written in pool.map(work, starts):
                    progress.update(written)
        else:
            for start in starts:
                progress.update(work(start))
    return sum(min(CHUNK, num - start) for start in starts)


def _part(out: Path, start: int, settings: Settings) -> Path:
    name = f"part-{start // CHUNK:04d}"
    return out / (f"{name}.tar" if settings.webdataset else name)


@lru_cache(maxsize=1)
def open_sprites(folder: str, names: tuple[str, ...], styles: tuple[str, ...]) -> Sprites:
    """The art, which a process keeps from part to part."""
    return Sprites(folder, names, styles)


def _write_part(
    sprites: str, out: Path, start: int, *, num: int, settings: Settings, make: MakeExample
) -> int:
    art = open_sprites(sprites, settings.objects, settings.styles)
    target = _part(out, start, settings)
    # A name of its own: the workers of a killed run may live on for a while.
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    count = min(CHUNK, num - start)
    members = (
        (f"{index:06d}", make(index, settings, art)) for index in range(start, start + count)
    )
    if settings.webdataset:
        with tarfile.open(unfinished, "w") as tar:
            for key, example in members:
                for suffix, content in _files(example).items():
                    info = tarfile.TarInfo(f"{key}{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    else:
        unfinished.mkdir()
        for key, example in members:
            for suffix, content in _files(example).items():
                (unfinished / f"{key}{suffix}").write_bytes(content)
    if not target.exists():
        unfinished.rename(target)
    return count


def _files(example: Example) -> dict[str, bytes]:
    buffer = io.BytesIO()
    example.image.save(buffer, format="JPEG", quality=QUALITY, subsampling=0)
    return {
        ".jpg": buffer.getvalue(),
        ".txt": "".join(f"{line}\n" for line in example.captions).encode(),
        ".json": json.dumps(example.truth).encode(),
    }


def _read(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.exists() else None

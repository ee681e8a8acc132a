"""MJHQ-30K as it is downloaded: `meta_data.json`, and the images in a folder or in a zip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dcht.data.entries import Entry, file_entry
from dcht.data.zips import list_zip
from dcht.errors import UsageError
from dcht.files import read_json
from dcht.images import list_images

META = "meta_data.json"
WHERE = "the benchmark is playgroundai/MJHQ-30K on the Hub: meta_data.json and mjhq30k_imgs.zip"


class Prompt(NamedTuple):
    """A row of the benchmark; its image is called after the key."""

    key: str
    category: str
    prompt: str


def read_prompts(data: Path) -> list[Prompt]:
    """The prompts of `meta_data.json`, in the file's order.

    Raises:
        UsageError: the file is missing, or something else.
    """
    path = data / META
    try:
        rows = read_json(path)
    except FileNotFoundError:
        raise UsageError(f"{path} is not there; {WHERE}") from None
    try:
        prompts = [Prompt(key, row["category"], row["prompt"]) for key, row in rows.items()]
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise UsageError(
            f"{path} is not what MJHQ-30K has, key: {{category, prompt}}: {error!r}"
        ) from None
    for prompt in prompts:
        words = (prompt.key, prompt.category, prompt.prompt)
        # A key becomes a file's name.
        if not all(isinstance(word, str) for word in words) or not _is_name(prompt.key):
            raise UsageError(f"{path}: {prompt.key!r} is not a key with a category and a prompt")
    if not prompts:
        raise UsageError(f"{path} holds no prompts")
    return prompts


def _is_name(key: str) -> bool:
    return key not in ("", ".", "..") and not {"/", "\\", "\0"} & set(key)


def hash_prompts(prompts: Sequence[Prompt]) -> str:
    """SHA-256 of prompts in their order."""
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()


def reference_images(data: Path, prompts: Sequence[Prompt]) -> list[Entry]:
    """The image of each prompt: from the folder if it holds any, else from the zips in it.

    Raises:
        UsageError: an image is missing, or there twice; it is named.
    """
    files = list_images(data)
    if files:
        entries = [file_entry(str(path), path.relative_to(data).as_posix()) for path in files]
    else:
        entries = [entry for path in sorted(data.glob("*.zip")) for entry in list_zip(path)]
    return find_images(entries, prompts, str(data))


def find_images(entries: Sequence[Entry], prompts: Sequence[Prompt], where: str) -> list[Entry]:
    """The image of each prompt among these, by its name without folder and suffix.

    Raises:
        UsageError: an image is missing, or there twice; it is named.
    """
    wanted = {prompt.key for prompt in prompts}
    found: dict[str, Entry] = {}
    for entry in entries:
        key = PurePosixPath(entry.name).stem
        if key not in wanted:
            continue
        if key in found:
            raise UsageError(f"{where} has {key} twice: {found[key].name} and {entry.name}")
        found[key] = entry
    if missing := [prompt.key for prompt in prompts if prompt.key not in found]:
        raise UsageError(
            f"{where} lacks {len(missing):,} of {len(prompts):,} images, the first is "
            f"{missing[0]}; {WHERE}"
        )
    return [found[prompt.key] for prompt in prompts]

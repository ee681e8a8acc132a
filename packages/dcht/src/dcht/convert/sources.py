"""The files of a published checkpoint: one file of tensors, several with an index, or a pipeline's.

Sources are read, never redistributed. A file that is a pickle is opened as plain tensors alone
(`weights_only`; `tests/test_pickles.py` lists all).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcht.checkpoint import CONFIG, WEIGHTS, read_safetensors
from dcht.errors import CheckpointError, UsageError
from dcht.files import file_sha256, open_regular, read_json
from dcht.hub import locate

INDEX = ".safetensors.index.json"
"""What the list of a checkpoint in several files ends with: `weight_map` says what is where."""
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
SAFE_FILES = (
    WEIGHTS,
    DIFFUSERS_WEIGHTS,
    "weights.safetensors",
    f"model{INDEX}",
    f"diffusion_pytorch_model{INDEX}",
)
PICKLES = ("pytorch_model.bin", "diffusion_pytorch_model.bin", "model.pt")
PLACES = ("", "vae/")
"""Where in a folder they are: in itself, or where a pipeline of diffusers has its autoencoder."""
SHARDS = "*-of-*.safetensors"


class PublishedFiles(NamedTuple):
    """A published checkpoint: its tensors, and the `config.json` beside them (empty if none)."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any]


def read_source(name: str | Path) -> PublishedFiles:
    """Read a published checkpoint: a weights file or index, a folder that holds one, or a Hub id.

    Of a pipeline's folder its `vae/` is read.

    Raises:
        CheckpointError: nothing there, or what is there cannot be read.
    """
    path = find_weights(name)
    tensors: dict[str, Tensor] = {}
    for file in _files(path):
        found = _read_tensors(file)
        if twice := tensors.keys() & found.keys():
            raise CheckpointError(f"{file} holds {min(twice)}, which another file holds too")
        tensors |= found
    if path.name.endswith(INDEX) and (unmatched := _weight_map(path).keys() ^ tensors.keys()):
        raise CheckpointError(f"{path} and its files do not agree on {min(unmatched)}")
    return PublishedFiles(tensors, read_settings(path))


def read_settings(weights: Path) -> dict[str, Any]:
    """The `config.json` beside a file of weights; empty if there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        return read_json(weights.with_name(CONFIG))
    except FileNotFoundError:
        return {}
    except UsageError as error:
        raise CheckpointError(str(error)) from None


def source_sha256(name: str | Path) -> str:
    """A hash of what `read_source` reads.

    Raises:
        CheckpointError: nothing there, or what is there cannot be read.
    """
    path = find_weights(name)
    files = _files(path)
    if path not in files:
        files = [path, *files]
    config = path.with_name(CONFIG)
    try:
        parts = [file_sha256(file) for file in (*files, config) if file.exists()]
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from None
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def find_weights(name: str | Path) -> Path:
    """The file of weights, or the index of several, that a name stands for.

    That is itself, one in that folder or in its `vae/`, or from the Hub.

    Raises:
        CheckpointError: there is none.
    """
    if Path(name).is_file():
        return Path(name)
    # Pickles are fetched only from where there is nothing else.
    for files in (SAFE_FILES, PICKLES):
        wanted = (CONFIG, *files, *([SHARDS] if files is SAFE_FILES else []))
        folder = locate(name, files=[place + file for place in PLACES for file in wanted])
        for place in PLACES:
            for file in files:
                if (folder / place / file).is_file():
                    return folder / place / file
    raise CheckpointError(
        f"{name} has no weights, nor has a vae/ in it; expected one of {', '.join(SAFE_FILES)}"
    )


def _files(path: Path) -> list[Path]:
    """The files of tensors that a file of weights, or an index, stands for, in order."""
    if not path.name.endswith(INDEX):
        return [path]
    names = sorted(set(_weight_map(path).values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{path} names {name!r}; expected a .safetensors file beside it")
        if not (path.parent / name).is_file():
            raise CheckpointError(f"{path} names {name}, which is not there")
    return [path.parent / name for name in names]


def _weight_map(path: Path) -> dict[str, str]:
    try:
        found = read_json(path).get("weight_map")
    except UsageError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise CheckpointError(f"{path} has no weight_map: the file that holds each tensor, by name")
    if not found:
        raise CheckpointError(f"{path} has an empty weight_map")
    return found


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        with open_regular(path) as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception:
        # What torch says of junk depends on its first bytes, and advises weights_only=False: to
        # run whatever is in the file.
        raise CheckpointError(
            f"{path} is no file of plain tensors; expected safetensors, or what torch.save wrote "
            "of a state dict"
        ) from None
    tensors = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not all(
        isinstance(key, str) and torch.is_tensor(value) for key, value in tensors.items()
    ):
        raise CheckpointError(f"{path} holds no state dict (names and tensors)")
    return tensors

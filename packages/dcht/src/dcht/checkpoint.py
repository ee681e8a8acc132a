"""Published checkpoints: `config.json` beside `model.safetensors`, read strictly, without pickle.

A checkpoint's hash is the SHA-256 of the two files in that order, so that anyone can check it:
`cat config.json model.safetensors | sha256sum`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import types
import typing
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcht.errors import CheckpointError, UsageError
from dcht.files import partial_path, read_json, remove_partials, write_atomic

T = TypeVar("T")
CONFIG, WEIGHTS = "config.json", "model.safetensors"
NAMED_KEYS = 6
"""How many offending keys an error names before it says how many more there are."""


def write_checkpoint(
    folder: str | Path,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    extra_files: dict[str, bytes] | None = None,
) -> str:
    """Write a checkpoint and return its SHA-256.

    Each file appears whole or not at all, the weights last: a folder with weights is complete.
    `dtype` rounds floating tensors (float16 halves the file), but for one with a value beyond its
    range, which stays as it is: a BatchNorm's running variance may pass float16's 65504.

    Raises:
        OSError: a file could not be written (a full disk, say); no part of it is left.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_partials(folder)
    rounded = {key: _round(value.detach().cpu(), dtype) for key, value in tensors.items()}
    files = {CONFIG: json.dumps(config, indent=1).encode() + b"\n", **(extra_files or {})}
    for name, content in files.items():
        write_atomic(folder / name, content)
    partial = partial_path(folder / WEIGHTS)
    try:
        save_file({key: value.contiguous() for key, value in rounded.items()}, partial)
    except SafetensorError as error:
        partial.unlink(missing_ok=True)
        # The system's reason is in its message alone: "... (os error 28)".
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        number = int(code.group(1))
        raise OSError(number, os.strerror(number), str(folder / WEIGHTS)) from None
    # safetensors makes the file its owner's alone; give it the permissions of its neighbour.
    partial.chmod((folder / CONFIG).stat().st_mode)
    os.replace(partial, folder / WEIGHTS)
    return checkpoint_sha256(folder)


def _round(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or not value.is_floating_point() or not value.numel():
        return value
    fits = value.abs().max() <= torch.finfo(dtype).max
    return value.to(dtype) if fits else value


def read_config(folder: str | Path) -> dict[str, Any]:
    """The content of a checkpoint's `config.json`."""
    path = Path(folder) / CONFIG
    try:
        return read_json(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing; a checkpoint has {CONFIG} and {WEIGHTS}"
        ) from None
    except UsageError as error:
        raise CheckpointError(str(error)) from None


def read_tensors(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, floating ones as fp32."""
    path = Path(folder) / WEIGHTS
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing; a checkpoint has {CONFIG} and {WEIGHTS}"
        ) from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return {
        key: value.float() if value.is_floating_point() else value for key, value in tensors.items()
    }


def checkpoint_sha256(folder: str | Path) -> str:
    """SHA-256 of `config.json` followed by `model.safetensors`."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with (Path(folder) / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def locate(
    name: str | Path,
    *,
    revision: str | None = None,
    files: Sequence[str] = (CONFIG, WEIGHTS, "tokenizer.json"),
) -> Path:
    """The folder of a checkpoint: `name` itself if it is one, else a download from the Hub.

    Only `files`, those that a checkpoint is made of, are downloaded; `HF_HUB_OFFLINE=1` is
    honoured.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise CheckpointError(f"{name} is neither a folder nor a Hub id (owner/name)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(str(name), revision=revision, allow_patterns=list(files))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{name} is not a local folder and could not be fetched from the Hub: {reason}"
        ) from None
    return Path(found)


def load_strict(module: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Give `module` (possibly on the meta device) these tensors; all must fit.

    Raises:
        CheckpointError: naming the keys that are missing, unexpected, of another shape or type,
            or that hold NaN or infinity.
    """
    expected = module.state_dict()
    problems = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - expected.keys()),
        "of another shape": [
            f"{key} {tuple(tensors[key].shape)}, expected {tuple(value.shape)}"
            for key, value in expected.items()
            if key in tensors and tensors[key].shape != value.shape
        ],
        "of another type": [
            f"{key} {tensors[key].dtype}, expected {value.dtype}"
            for key, value in expected.items()
            if key in tensors and tensors[key].is_floating_point() != value.is_floating_point()
        ],
        "that are not finite": [key for key, value in tensors.items() if not is_finite(value)],
    }
    found = [f"{kind}: {_shorten(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise CheckpointError(f"{where}: keys {'; '.join(found)}")
    # assign gives a meta module real storage; a live module keeps its own (and its device).
    on_meta = any(value.is_meta for value in expected.values())
    module.load_state_dict(tensors, strict=True, assign=on_meta)


def is_finite(values: Tensor) -> bool:
    """Whether there is neither NaN nor infinity in values of any type."""
    without_values = values.is_meta or not values.is_floating_point()
    return without_values or bool(values.float().isfinite().all())


def _shorten(keys: list[str]) -> str:
    rest = len(keys) - NAMED_KEYS
    return ", ".join(keys[:NAMED_KEYS]) + (f" and {rest} more" if rest > 0 else "")


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain JSON types; enums by value."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, Enum):
            return value.value
        if isinstance(value, (list, tuple)):
            return [plain(entry) for entry in value]
        return value

    return plain(config)


def from_dict(cls: type[T], data: dict[str, Any], where: str) -> T:
    """Build the config dataclass `cls` from what `to_dict` made.

    Raises:
        CheckpointError: an unknown key, a missing one, or a value that is not allowed.
    """
    try:
        return _build(cls, data, where)
    except (TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{where}: {error}") from None


def _build(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [option for option in typing.get_args(kind) if option is not type(None)]
        return None if value is None else _build(inner[0], value, where)
    if origin is list:
        return [_build(typing.get_args(kind)[0], entry, where) for entry in value]
    if isinstance(kind, type) and issubclass(kind, Enum):
        allowed = [member.value for member in kind]
        if value not in allowed:
            raise CheckpointError(f"{where}: {value!r} is not one of {allowed}")
        return kind(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = {field.name for field in dataclasses.fields(kind)}
        if unknown := sorted(value.keys() - fields):
            raise CheckpointError(f"{where}: unknown settings {_shorten(unknown)}")
        return kind(**{key: _build(hints[key], entry, where) for key, entry in value.items()})
    if kind in (bool, int, float, str) and not isinstance(
        value, (kind, int) if kind is float else kind
    ):
        raise CheckpointError(f"{where}: {value!r} is not of type {kind.__name__}")
    return value

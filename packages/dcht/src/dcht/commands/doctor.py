"""`dcht doctor`, and the part of `dcar doctor` that is the same: what is here, and what can run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dcht.commands.common import FAILED, OK, add_common
from dcht.errors import CheckpointError, printable

EXAMPLES = """examples:
  {prog} doctor                       to read, and to paste into an issue
  {prog} doctor --json
  {prog} doctor --compare runs/tiny   a run's curves beside its experiment's reference
"""
LIBRARIES = (
    "torch", "torchvision", "numpy", "pillow", "einops", "safetensors", "huggingface-hub",
    "tokenizers", "transformers", "hydra-core", "gradio",
)  # fmt: skip
EXTRAS = {
    "dcht[train]": ("hydra", "dcht-train"),
    "dcht[tensorboard]": ("tensorboard", "a run's event files"),
    "dcht[datasets]": ("pyarrow", "Parquet, Arrow and hf:// in dcht encode"),
    "dcht[onnx]": ("onnxruntime", "dcht export to ONNX"),
    "dcht[ray]": ("ray", "dcht encode --backend ray"),
    "dcht[slurm]": ("submitit", "training under SLURM from one command"),
}
"""By extra: a module that it brings, and what needs it."""


def add(
    verbs: Any,
    *,
    prog: str,
    package: str,
    packages: Sequence[str],
    extras: dict[str, tuple[str, str]],
    checkpoint: Callable[[], str],
) -> None:
    """Add the verb to the subparsers.

    Args:
        verbs: the subparsers.
        prog: the command, in the examples.
        package: what has the reference curves.
        packages: distributions whose versions are shown.
        extras: as `EXTRAS`.
        checkpoint: loads the bundled checkpoint strictly and returns its SHA-256.
    """
    verb = verbs.add_parser(
        "doctor",
        help="versions, devices, weights, extras: what can run here",
        epilog=EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "--compare", type=Path, metavar="RUN",
        help="compare a run's curves with its experiment's reference; exit code 1 if they differ",
    )  # fmt: skip
    add_common(verb, "json")
    verb.set_defaults(
        function=lambda arguments: (
            _compare(arguments, package)
            if arguments.compare is not None
            else _report(arguments, packages, extras, checkpoint)
        )
    )


def _report(
    arguments: argparse.Namespace,
    packages: Sequence[str],
    extras: dict[str, tuple[str, str]],
    checkpoint: Callable[[], str],
) -> int:
    found = examine(packages, extras, checkpoint)
    if arguments.json:
        print(json.dumps(found))
    else:
        for part, rows in found.items():
            print(part)
            for name, value in rows.items():
                print(f"  {name:<17} {printable(value)}")
    return OK


def examine(
    packages: Sequence[str],
    extras: dict[str, tuple[str, str]],
    checkpoint: Callable[[], str],
) -> dict[str, dict[str, str]]:
    """Everything that a report says: parts, each with rows of a name and a text."""
    return {
        "system": _system(),
        "versions": {name: _version(name) for name in (*packages, *LIBRARIES)},
        "devices": _devices(),
        "weights": _weights(checkpoint),
        "extras": {
            extra: "installed" if find_spec(module) else f"pip install '{extra}' for {use}"
            for extra, (module, use) in extras.items()
        },
    }


def _system() -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "HF_HOME", "CUDA_VISIBLE_DEVICES")
    variables = {name: os.environ[name] for name in names if name in os.environ}
    return {
        "python": f"{platform.python_version()}, {sys.executable}",
        "platform": platform.platform(),
        "cpus": str(os.cpu_count()),
        **variables,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> dict[str, str]:
    import torch

    from dcht.device import pick_device, pick_precision

    threads = torch.get_num_threads()
    rows = {
        "cpu": f"{threads} thread{'s' * (threads != 1)}, {torch.backends.cpu.get_cpu_capability()}"
    }
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        rows[f"cuda:{index}"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        rows["mps"] = "available"
    chosen = pick_device("auto")
    precision = pick_precision("auto", chosen)
    rows["--device auto"] = str(chosen)
    rows["--precision auto"] = f"{precision.value} (fp32 unless asked for)"
    return rows


def _weights(checkpoint: Callable[[], str]) -> dict[str, str]:
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        bundled = f"whole, SHA-256 {checkpoint()}"
    except CheckpointError as error:
        bundled = f"cannot be used: {error}"
    hub = Path(HF_HUB_CACHE)
    models = sorted(path.name for path in hub.glob("models--*")) if hub.is_dir() else []
    shown = ", ".join(name.removeprefix("models--").replace("--", "/") for name in models[:8])
    torch_hub = Path(torch.hub.get_dir()) / "checkpoints"
    cached = sorted(path.name for path in torch_hub.glob("*.pth")) if torch_hub.is_dir() else []
    return {
        "bundled": bundled,
        "Hub cache": f"{len(models)} models in {hub}" + (f": {shown}" if shown else ""),
        "torch cache": f"{len(cached)} files in {torch_hub}"
        + (f": {', '.join(cached[:8])}" if cached else ""),
    }


def _compare(arguments: argparse.Namespace, package: str) -> int:
    from dcht.engine.reference import compare_curves, find_reference, load_references

    reference = find_reference(arguments.compare, load_references(package))
    found = compare_curves(arguments.compare, reference)
    agrees = all(one.agrees for one in found)
    if arguments.json:
        curves = {one.name: vars(one) | {"agrees": one.agrees} for one in found}
        print(json.dumps({"experiment": reference.experiment, "agrees": agrees, "curves": curves}))
    else:
        print(f"{printable(arguments.compare)} beside +experiment={reference.experiment}")
        print(f"  the reference read {reference.data}")
        for one in found:
            print(f"  {one}")
    return OK if agrees else FAILED

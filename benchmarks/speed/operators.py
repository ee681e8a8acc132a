"""What two blocks of ours and of Sana-0.6B spend where, in fp32 and in bf16: why each gains.

    OMP_NUM_THREADS=1 python benchmarks/speed/operators.py

512 px, guidance on, 300 text tokens, random weights of the published sizes. Each operator that
PyTorch runs is timed by itself; the runs of both networks and both precisions take turns, and of
each operator its fastest run counts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import dcar
from dcar.modules.transformer import Generator

BLOCKS, SIDE, TEXT, WIDTH = 2, 16, 300, 1152
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
KINDS = {
    "matrix products": ("addmm", "mm", "bmm", "linear", "matmul", "convolution"),
    "attention": ("_scaled_dot_product",),
    "depthwise convolution": ("depthwise",),
    "norms": ("native_layer_norm", "layer_norm"),
    "activations": ("gelu", "silu", "relu"),
    "sums and products": ("add", "mul", "div"),
    "copies": ("copy", "clone", "cat", "_to_copy", "contiguous", "pad"),
}
"""By the beginning of an operator's name; what is none of these is free or `other`."""

Run = Callable[[], object]


class Clock(TorchDispatchMode):
    """Processor seconds of every operator, in the order in which they run."""

    def __init__(self) -> None:
        super().__init__()
        self.took: list[tuple[str, float]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name == "convolution" and args[8] > 1:
            name = "depthwise"
        start = time.process_time()
        out = func(*args, **(kwargs or {}))
        self.took.append((name, time.process_time() - start))
        return out


def ours(dtype: torch.dtype) -> Run:
    """Two blocks of DC-AR 671 M; the text's keys and values are there, as in the sampler."""
    config = dcar.PRESETS["dcar_671m"].generator
    network = Generator(replace(config, depth=BLOCKS, text_length=TEXT)).eval().to(dtype)
    text = torch.randn(2, TEXT, config.text_dim)
    context = network.embed_text(text, torch.ones(2, TEXT))
    x = torch.randn(2, SIDE * SIDE, WIDTH).to(dtype)
    return lambda: network.run_blocks(x, context)


def sana(dtype: torch.dtype) -> Run:
    """Two of Sana's blocks, which embed the text in every step."""
    module = importlib.import_module("diffusers.models.transformers.sana_transformer")
    blocks = [
        module.SanaTransformerBlock(WIDTH, 36, 32, 0.0, 16, 72, WIDTH, attention_bias=False)
        .eval().to(dtype)
        for _ in range(BLOCKS)
    ]  # fmt: skip
    start, text = torch.randn(2, SIDE * SIDE, WIDTH), torch.randn(2, TEXT, WIDTH)
    x, text, timestep = start.to(dtype), text.to(dtype), torch.randn(2, 6 * WIDTH).to(dtype)

    def run() -> Tensor:
        y = x
        for block in blocks:
            y = block(y, None, text, None, timestep, SIDE, SIDE)
        return y

    return run


def measure(runs: dict[str, Run], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds by kind of operator, of every run; `all` is their sum."""
    least: dict[str, list[float]] = {}
    names: dict[str, list[str]] = {}
    with torch.no_grad():
        for _ in range(rounds):
            for name, run in runs.items():
                with Clock() as clock:
                    run()
                took = [seconds for _, seconds in clock.took]
                least[name] = [min(pair) for pair in zip(took, least.get(name, took), strict=True)]
                names[name] = [operator for operator, _ in clock.took]
    found = {}
    for name, seconds in least.items():
        kinds: dict[str, float] = defaultdict(float)
        for operator, each in zip(names[name], seconds, strict=True):
            kinds[kind_of(operator)] += 1000 * each
        found[name] = {"all": sum(kinds.values()), **kinds}
    return found


def kind_of(operator: str) -> str:
    """The row of the table in which an operator counts."""
    for kind, starts in KINDS.items():
        if operator.startswith(starts):
            return kind
    return "other"


def table(found: dict[str, dict[str, float]]) -> str:
    """A row a kind: milliseconds in fp32 and bf16 and the gain, for both networks."""
    lines = ["| | DC-AR fp32 | bf16 | gain | Sana fp32 | bf16 | gain |", "|---|" + "---|" * 6]
    for kind in ("all", *KINDS, "other"):
        cells = []
        for network in ("dcar", "sana"):
            slow, fast = (found[f"{network} {each}"].get(kind, 0.0) for each in PRECISIONS)
            cells += [f"{slow:.1f}", f"{fast:.1f}", f"{slow / fast:.2f}x" if fast > 0.05 else ""]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8, help="the fastest counts [8]")
    parser.add_argument("--out", type=Path, help="write the milliseconds as JSON")
    words = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    builders = {"dcar": ours, "sana": sana}
    runs = {
        f"{network} {name}": build(dtype)
        for network, build in builders.items()
        for name, dtype in PRECISIONS.items()
    }
    found = measure(runs, words.rounds)
    if words.out:
        words.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()

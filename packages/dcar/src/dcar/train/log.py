"""What a run says of itself: what it is about to do, a row of numbers now and then, its curves."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from dcar.model import RATIO_BINS
from dcar.train.trainer import StepResult, Trainer
from dcar.train_config import Parallel
from dcht.engine.curves import Panel, plot_curves
from dcht.engine.metrics import METRICS, Means, read_metrics
from dcht.errors import CheckpointError

QUARTERS = [f"{i / RATIO_BINS:.2f}-{(i + 1) / RATIO_BINS:.2f}" for i in range(RATIO_BINS)]
"""The bins of the mask ratio by name."""
STATE_COPIES = 5
"""fp32 numbers that are kept for each trained one: itself, gradient, two moments, average."""
PANELS = [
    Panel("losses", {"cross_entropy": "cross-entropy", "diffusion": "diffusion"}),
    Panel("accuracy of masked indices", {"accuracy": "all"}
          | {f"accuracy/{name}": f"mask ratio {name}" for name in QUARTERS}),
    Panel("cross-entropy by mask ratio", {f"cross_entropy/{name}": name for name in QUARTERS}),
    Panel("gradient norm before clipping", {"grad_norm": "norm", "head_grad_norm": "the head's"},
          log_scale=True),
    Panel("learning rate", {"lr": "rate"}),
    Panel("sequences a second", {"sequences_per_second": "rate"}),
]  # fmt: skip


class Progress:
    """Means over the steps since the last row, and the rate at which they went."""

    def __init__(self, trainer: Trainer, resumed: Mapping[str, Any] | None) -> None:
        """Begin; or, where a run was stopped between two rows, continue from `state()`.

        Raises:
            CheckpointError: it is no such state.
        """
        self.trainer = trainer
        self.means = Means()
        self._restart()
        if resumed is not None:
            try:
                self.means.load_state(resumed)
                self.seconds = float(resumed["seconds"])
                self.by_ratio += torch.tensor(resumed["by_ratio"])
            except (LookupError, TypeError, ValueError, RuntimeError):
                raise CheckpointError(
                    f"the save of step {trainer.step} is damaged: its progress is none; delete it "
                    "to continue from the save before"
                ) from None

    def _restart(self) -> None:
        self.by_ratio = torch.zeros(RATIO_BINS, 3)
        self.seconds = 0.0

    def state(self) -> dict[str, Any]:
        """What the next row needs of the steps that are done."""
        by_ratio = self.by_ratio.tolist()
        return {**self.means.state(), "by_ratio": by_ratio, "seconds": self.seconds}

    def add(self, result: StepResult, seconds: float) -> None:
        """Take in a step and how long it took."""
        self.means.add(result.scalars)
        self.by_ratio += result.by_ratio
        self.seconds += seconds

    def take(self) -> dict[str, float]:
        """The row of the steps since the last one; quarters that no sample was in are left out."""
        num_steps = self.means.num_steps
        row = self.means.take()
        row["accuracy"] = float(self.by_ratio[:, 1].sum() / self.by_ratio[:, 2].sum())
        for name, (loss, right, count) in zip(QUARTERS, self.by_ratio.tolist(), strict=True):
            if count:
                row[f"cross_entropy/{name}"] = loss / count
                row[f"accuracy/{name}"] = right / count
        row["sequences_per_second"] = num_steps * self.trainer.config.batch_size / self.seconds
        if (peak := peak_memory(self.trainer.device)) is not None:
            row["peak_memory_gib"] = peak / 2**30
        self._restart()
        return row

    def shown(self, row: dict[str, float]) -> str:
        """A row as a line for the terminal, without the quarters."""
        values = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if "/" not in name)
        return f"step {self.trainer.step}/{self.trainer.config.steps}  {values}"


def peak_memory(device: torch.device) -> int | None:
    """Bytes that this process held at most: on the GPU, or in all; None on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if find_spec("resource") is None:  # it is POSIX's
        return None
    import resource

    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def describe(trainer: Trainer) -> list[str]:
    """A summary of the run before it starts, for the terminal."""
    config, data, world = trainer.config, trainer.data, trainer.world
    factor = trainer.tokenizer.config.downsampling
    grids = dict.fromkeys(part.grid for part in data.parts)
    sizes = ", ".join(f"{w * factor} x {h * factor} ({h * w} tokens each)" for h, w in grids)
    learner = trainer.learner
    parts = {
        "generator": learner.model.generator,
        "head": learner.model.head,
        "text encoder": learner.text,
    }
    counts = {
        name: sum(p.numel() for p in part.parameters() if p.requires_grad)
        for name, part in parts.items()
        if part is not None
    }
    trained = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items())
    roots = ", ".join(source.root for source in (config.data, *config.data.mixture))
    classes = config.model.text.classes
    texts = f"{sum(map(len, data.captions))} captions"
    if classes is not None:
        texts = f"{len(classes.names)} classes"
    ranks = "one process" if world.size == 1 else f"{world.size} ranks, {config.parallel.value}"
    return [
        f"{roots}: {len(data)} images of {sizes}, {texts}",
        *data.notes,
        f"steps {trainer.step} to {config.steps} of {config.batch_size}, "
        f"{len(data) / config.batch_size:.1f} steps an epoch, start: {config.init_from}",
        f"trains {trained}; residual std {config.model.head.residual_std:.4f}; "
        f"{trainer.device}, {'bf16 autocast' if trainer.bf16 else 'fp32'}, {ranks}",
        f"memory: {expected_memory(trainer) / 2**30:.2f} GiB a rank for weights, gradients, "
        "moments and average; the activations of "
        f"{config.batch_size // config.accumulate // world.size} samples come on top",
    ]


def expected_memory(trainer: Trainer) -> int:
    """Bytes that a rank holds at the end of a step, but for activations."""
    trained = [p for p in trainer.learner.parameters() if p.requires_grad]
    state = STATE_COPIES * sum(parameter.nbytes for parameter in trained)
    if trainer.config.parallel is Parallel.fsdp2:
        state = math.ceil(state / trainer.world.size)
    frozen = {
        id(p): p.nbytes
        for part in (trainer.learner, trainer.text, trainer.tokenizer)
        for p in part.parameters()
    }
    return state + sum(size for key, size in frozen.items() if key not in set(map(id, trained)))


def plot_run(out: Path) -> None:
    """Draw the curves of a run from its log, as `curves.png`."""
    plot_curves(read_metrics(out / METRICS), PANELS, out / "curves.png", marks={})

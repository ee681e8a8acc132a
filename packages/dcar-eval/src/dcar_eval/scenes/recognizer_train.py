"""Training the recognizer of scenes from the scene generator's own ground truth.

Batch k holds the compositions k·b to (k+1)·b - 1, so a run that was stopped goes on exactly: its
state is the step, the weights and the optimizer. Nothing of the benchmark's layout is used; what is
learnt is measured on scenes that were never trained on (`dcar_eval.scenes.ceiling`).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dcar_eval.geneval import Options
from dcar_eval.runs.results import alone
from dcar_eval.scenes.compositions import Composition, Labeled, compose, degrade
from dcar_eval.scenes.recognizer import GRID, SIDE, STRIDE, Answers, Recognizer, RecognizerConfig
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import COLORS
from dcht.checkpoint import WEIGHTS
from dcht.engine.distributed import World
from dcht.engine.run_folder import RESUME_PATTERN, check_settings, load_resume, save_resume
from dcht.engine.training import EMA, GracefulStop, RunLog, finite_or_stop, warmup_lr
from dcht.errors import printable

RESULT = "recognizer"
"""Folder of a run that holds what it made."""
IGNORED = -100
"""`cross_entropy`'s sign for cells that have nothing to say."""
NEAR = 1.6
"""Cells from an object's middle within which class, color and edges are learnt."""
SPREAD = 0.8
"""Standard deviation, in cells, of the warmth around a middle."""
EDGES_WEIGHT = 5.0
OPTIONS = Options(threshold=0.3, counting_threshold=0.4)
"""GenEval's own thresholds belong to its detector; the second here is where a fourth object hidden
by three others is told from an echo of one of them."""


@dataclass(kw_only=True)
class Training:
    """What the weights depend on, besides the art."""

    classes: list[str]
    seed: int = 0
    side: int = SIDE
    neighbourhood: int = 5
    steps: int = 5000
    batch_size: int = 32
    lr: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    ema_decay: float = 0.998
    started_from: str | None = None
    """SHA-256 of the recognizer whose weights it began with, if any."""


class Compose(Protocol):
    """Makes composition number k, `size` pixels a side."""

    def __call__(
        self, index: int, *, seed: int, classes: list[str], sprites: Sprites, size: int
    ) -> Composition:
        """A function of (seed, index), the classes, the size and the art."""
        ...


class Targets(NamedTuple):
    """The truth at every cell, of one image or of a batch of them."""

    heat: Tensor
    """(g, g) in [0, 1], exactly 1 where the middle of an object lies."""
    classes: Tensor
    """(g, g), `IGNORED` away from objects."""
    colors: Tensor
    """(g, g), `IGNORED` also where an object has its sprite's own colors."""
    edges: Tensor
    """(4, g, g)."""


class Compositions(Dataset[tuple[Tensor, Targets]]):
    """Composition k with its targets; degraded, as 8 bits."""

    def __init__(self, sprites: str | Path, training: Training, compose: Compose = compose) -> None:
        self.sprites = Sprites(sprites, tuple(training.classes))
        self.training, self.compose = training, compose

    def __len__(self) -> int:
        return self.training.steps * self.training.batch_size

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        seed, classes = self.training.seed, self.training.classes
        side = self.training.side
        made = self.compose(index, seed=seed, classes=classes, sprites=self.sprites, size=side)
        pixels = np.asarray(degrade(made.image, index, seed=seed))
        image = rearrange(torch.from_numpy(pixels.copy()), "h w c -> c h w")
        return image, targets(made.objects, side // STRIDE)


def targets(objects: list[Labeled], grid: int = GRID) -> Targets:
    """What the network should answer to an image of these objects, on grid x grid cells."""
    centers = (np.arange(grid) + 0.5) / grid
    x, y = centers[None, :], centers[:, None]
    heat = np.zeros((grid, grid), dtype=np.float32)
    nearest = np.full((grid, grid), NEAR)
    classes = np.full((grid, grid), IGNORED)
    colors = np.full((grid, grid), IGNORED)
    edges = np.zeros((4, grid, grid), dtype=np.float32)
    for kind, color, (left, top, right, bottom) in objects:
        middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
        distance = np.hypot(x - middle_x, y - middle_y) * grid
        heat = np.maximum(heat, np.exp(-(distance**2) / (2 * SPREAD**2)))
        heat[min(int(middle_y * grid), grid - 1), min(int(middle_x * grid), grid - 1)] = 1
        nearer = distance < nearest
        nearest = np.where(nearer, distance, nearest)
        classes = np.where(nearer, kind, classes)
        colors = np.where(nearer, IGNORED if color < 0 else color, colors)
        across, down = np.broadcast_to(x, nearer.shape), np.broadcast_to(y, nearer.shape)
        here = np.stack([across - left, down - top, right - across, bottom - down])
        edges = np.where(nearer, here, edges)
    return Targets(
        torch.from_numpy(heat.astype(np.float32)),
        torch.from_numpy(classes).long(),
        torch.from_numpy(colors).long(),
        torch.from_numpy(edges.astype(np.float32)),
    )


def losses(answers: Answers, truth: Targets) -> dict[str, Tensor]:
    """The terms of a batch: penalty-reduced focal loss (Zhou et al. 2019, eq. 1) and the rest."""
    heat = answers.heat.sigmoid().clamp(1e-4, 1 - 1e-4)
    middle = truth.heat == 1
    hit = (1 - heat) ** 2 * heat.log()
    miss = (1 - truth.heat) ** 4 * heat**2 * (1 - heat).log()
    near = rearrange(truth.classes != IGNORED, "b h w -> b 1 h w")
    distance = (answers.edges - truth.edges).abs() * near
    return {
        "heat": -torch.where(middle, hit, miss).sum() / middle.sum().clamp(min=1),
        "classes": _cross_entropy(answers.classes, truth.classes),
        "colours": _cross_entropy(answers.colors, truth.colors),
        "edges": EDGES_WEIGHT * distance.sum() / near.sum().clamp(min=1) / 4,
    }


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """The mean over cells that have something to say; 0 where none has."""
    total = F.cross_entropy(logits, truth, ignore_index=IGNORED, reduction="sum")
    return total / (truth != IGNORED).sum().clamp(min=1)


@alone
def train_recognizer(
    sprites: str | Path,
    out: str | Path,
    *,
    training: Training,
    measure: Callable[[Recognizer], dict[str, Any]],
    measured_on: Mapping[str, Any] | None = None,
    compose: Compose = compose,
    start: Recognizer | None = None,
    log_every: int = 50,
    save_every: int = 500,
    workers: int = 1,
    force: bool = False,
) -> bool:
    """Train, or go on where `out` stopped; then measure the ceiling and write `out/recognizer`.

    Args:
        sprites: the folder with the npm packages.
        out: the run.
        training: what the weights depend on.
        measure: the ceiling of a recognizer in eval mode.
        measured_on: what that ceiling says of how it was measured: a finished run with another one
            is measured again, and not trained.
        compose: the images; a function that other processes can import.
        start: whose weights to begin with; it knows all the classes.
        log_every: steps.
        save_every: steps.
        workers: processes that render.
        force: begin anew.

    Returns:
        Whether it is done; False: a signal stopped it, and the same settings continue.

    Raises:
        UsageError: sprites missing, or `out` holds a run of other settings.
    """
    out, compositions = Path(out), Compositions(sprites, training, compose)
    if force:
        for old in out.glob(RESUME_PATTERN):
            old.unlink()
    resumed = load_resume(out)
    settings = asdict(training) | {"sprites_sha256": compositions.sprites.sha256()}
    check_settings(out, settings, free=(), resuming=resumed is not None)
    if resumed is not None and resumed[0] == training.steps and (out / RESULT / WEIGHTS).exists():
        known = Recognizer.from_pretrained(out / RESULT)[0].config.ceiling
        if all(known.get(key) == value for key, value in (measured_on or {}).items()):
            return True
    torch.manual_seed(training.seed)
    network = Recognizer(
        RecognizerConfig(
            classes=training.classes,
            colours=list(COLORS),
            side=training.side,
            neighbourhood=training.neighbourhood,
            options=OPTIONS,
        )
    )
    if start is not None:
        network.load_state_dict(weights_for(start, training.classes))
    network.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.lr, weight_decay=training.weight_decay, fused=True
    )
    ema, step = EMA(network, training.ema_decay), 0
    if resumed is not None:
        step, state = resumed
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
    sums: dict[str, float] = defaultdict(float)
    count, world = 0, World(0, 1, torch.device("cpu"))
    with closing(RunLog(out, first_step=step + 1)) as log, GracefulStop() as stop:
        for images, truth in batches(compositions, step, workers):
            rate = warmup_lr(
                step,
                base=training.lr,
                warmup_steps=training.warmup_steps,
                total_steps=training.steps,
                shape="cosine",
            )
            terms = losses(network(images.float() / 127.5 - 1), truth)
            finite_or_stop(terms, {"images": images}, out, step)
            _descend(optimizer, terms, rate)
            ema.update(network)
            step, count = step + 1, count + 1
            for name, value in terms.items():
                sums[name] += float(value.detach())
            if step % log_every == 0:
                row = {name: value / count for name, value in sums.items()}
                log.scalars(step, row)
                shown = "  ".join(f"{name} {value:.4f}" for name, value in row.items())
                log.line(f"step {step}/{training.steps}  {shown}")
                sums.clear()
                count = 0
            stopped = stop.agreed(world, log)
            if stopped or step % save_every == 0 or step == training.steps:
                state = {
                    "network": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "ema": ema.state_dict(),
                }
                save_resume(out, step, state)
            if stopped and step < training.steps:
                log.line(f"stopped at step {step}; the same command continues")
                return False
    averaged = copy.deepcopy(network)
    ema.copy_to(averaged)
    averaged.eval()
    ceiling = measure(averaged)
    averaged.config = replace(averaged.config, training=asdict(training), ceiling=ceiling)
    averaged.save_pretrained(out / RESULT)
    print(printable(f"{out / RESULT}: overall {ceiling['overall']:.4f}"))
    return True


def weights_for(start: Recognizer, classes: list[str]) -> dict[str, Tensor]:
    """The weights of a recognizer of more classes, for these alone."""
    known, (heat, kinds, *_) = start.config.classes, start.parts
    rest = range(heat + kinds, sum(start.parts))
    rows = torch.tensor([*range(heat), *(heat + known.index(name) for name in classes), *rest])
    weights = start.state_dict()
    for key in ("answer.weight", "answer.bias"):
        weights[key] = weights[key][rows]
    return weights


def _descend(optimizer: torch.optim.Optimizer, terms: dict[str, Tensor], rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()


def batches(
    compositions: Compositions, first_step: int, workers: int
) -> Iterator[tuple[Tensor, Targets]]:
    """The batches from a step on, in order, rendered by other processes ahead of their use."""
    size = compositions.training.batch_size
    rest = range(first_step * size, len(compositions))
    loader = DataLoader(
        compositions,
        batch_size=size,
        sampler=rest,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)

"""Train the estimator of fidelity on what estimator_data.py wrote, from the recognizer's weights.

    python benchmarks/paper/estimator_train.py DATA ... --out OUT [--start OTHER] [--minutes M]

DATA: folders of estimator_data.py. Every twentieth image is kept from training; what is printed and
stands in OUT/config.json as `worth` is of these. The rate falls to zero over the minutes given, so
that a quicker machine sees more images.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from dcar_eval.metrics.likeness import LEVELS
from dcar_eval.scenes.estimator import BEST, CELLS, WORST, Estimator, EstimatorConfig, pool
from dcar_eval.scenes.recognizer import Recognizer
from dcht.checkpoint import checkpoint_sha256
from dcht.commands.common import OK, positive, run
from dcht.engine.training import EMA

KEPT = 20
BATCH, RATE, WARMUP, WEIGHT_DECAY, DECAY = 32, 1.5e-3, 50, 1e-4, 0.99
WINDOW = 16
"""Cells a side of what is seen of an image at once: half of it, with a part of an object."""
CELL_LOW, CELL_HIGH = 8.0, 45.0
"""PSNR in dB to which a cell's is clipped."""
CELL_WEIGHT, DETAIL_WEIGHT = 0.1, 6.0
"""Of a decibel of a cell and of a unit of detail, beside a decibel of the objects."""


class Pairs:
    """Images and maps of some folders, as one."""

    def __init__(self, folders: list[Path]) -> None:
        found = [path for folder in folders for path in sorted(folder.glob("*/images.npy"))]
        self.images = [np.load(path, mmap_mode="r") for path in found]
        self.maps = [np.load(path.with_name("maps.npy")) for path in found]
        self.rows = [(k, n) for k, images in enumerate(self.images) for n in range(len(images))]

    def batch(self, rows: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Images (b, 3, SIDE, SIDE) in [-1, 1], maps (b, 6, CELLS, CELLS)."""
        pixels = torch.from_numpy(np.stack([self.images[k][n] for k, n in rows]))
        images = rearrange(pixels, "b h w c -> b c h w").float() / 127.5 - 1
        return images, torch.from_numpy(np.stack([self.maps[k][n] for k, n in rows]))


def windows(images: Tensor, maps: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A window of each image and its maps, by lot: that of six which shows most of the objects."""
    tries = rng.integers(0, (CELLS - WINDOW) // 2 + 1, (len(images), 6, 2)) * 2
    seen: list[Tensor] = []
    cut: list[Tensor] = []
    for image, of_it, places in zip(images, maps, tries.tolist(), strict=True):
        y, x = max(places, key=lambda p: float(_window(of_it[5], *p).sum()))
        if _window(of_it[5], y, x).any():
            cut.append(_window(of_it, y, x))
            seen.append(image[:, 8 * y : 8 * (y + WINDOW), 8 * x : 8 * (x + WINDOW)])
    return torch.stack(seen), torch.stack(cut)


def _window(values: Tensor, y: int, x: int) -> Tensor:
    return values[..., y : y + WINDOW, x : x + WINDOW]


def truth_of(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """PSNR and detail of the objects, (b,), and PSNR of all cells, (b, CELLS, CELLS)."""
    _, objects, product, ours, theirs, values = maps.sum(dim=(2, 3)).unbind(1)
    psnr = 10 * torch.log10(LEVELS**2 * values / objects.clamp(min=1e-6))
    detail = product / (ours * theirs).sqrt().clamp(min=1e-6)
    inside = maps[:, 5].amax(dim=(1, 2), keepdim=True)  # values of a cell
    cells = 10 * torch.log10(LEVELS**2 * inside / maps[:, 0].clamp(min=1e-6))
    return psnr.clamp(WORST, BEST), detail, cells.clamp(CELL_LOW, CELL_HIGH)


def loss_of(network: Estimator, images: Tensor, maps: Tensor) -> Tensor:
    """Of a batch: distances of what is pooled over the objects, and of each cell."""
    cells = network(images).float()
    guess = pool(cells, maps[:, 5] / maps[:, 5].amax(dim=(1, 2), keepdim=True))
    psnr, detail, of_cells = truth_of(maps)
    return (
        F.smooth_l1_loss(guess.psnr, psnr)
        + DETAIL_WEIGHT * F.smooth_l1_loss(guess.detail, detail, beta=0.1)
        + CELL_WEIGHT * F.l1_loss(cells[:, 0], of_cells)
    )


@torch.inference_mode()
def worth(network: Estimator, pairs: Pairs, rows: list[tuple[int, int]]) -> dict[str, Any]:
    """Correlation with the truth and mean distance from it, of PSNR and of detail."""
    found: list[Tensor] = []
    for start in range(0, len(rows), BATCH):
        images, maps = pairs.batch(rows[start : start + BATCH])
        inside = maps[:, 5] / maps[:, 5].amax(dim=(1, 2), keepdim=True)
        guess, (psnr, detail, _) = pool(network(images), inside), truth_of(maps)
        found.append(torch.stack([guess.psnr, psnr, guess.detail, detail]))
    psnr, psnr_true, detail, detail_true = torch.cat(found, dim=1)
    return {
        name: {
            "correlation": round(float(torch.corrcoef(torch.stack([ours, true]))[0, 1]), 4),
            "distance": round(float((ours - true).abs().mean()), 4),
        }
        for name, ours, true in (("psnr", psnr, psnr_true), ("detail", detail, detail_true))
    } | {"images": len(rows)}


def train(pairs: Pairs, *, start: Path | None, minutes: float, seed: int) -> Estimator:
    """Train, print how it goes, and measure."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    kept, seen = pairs.rows[::KEPT], [row for k, row in enumerate(pairs.rows) if k % KEPT]
    network = Estimator(EstimatorConfig())
    if start is None:
        known = Recognizer.from_pretrained()[0].state_dict()
        trunk = {k: v for k, v in known.items() if not k.startswith("answer.")}
        network.load_state_dict(trunk, strict=False)
    else:
        network.load_state_dict(Estimator.from_pretrained(start)[0].state_dict())
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    ema, began, step, order = EMA(network, DECAY), time.monotonic(), 0, []
    losses: list[float] = []
    while (done := (time.monotonic() - began) / 60 / minutes) < 1:
        if len(order) < BATCH:
            order = [seen[k] for k in rng.permutation(len(seen))]
        images, maps = pairs.batch([order.pop() for _ in range(BATCH)])
        if rng.random() < 0.5:
            images, maps = images.flip(-1), maps.flip(-1)
        if rng.random() < 0.3:  # other colors, of which none of the maps knows
            images = images[:, rng.permutation(3).tolist()]
        images, maps = windows(images, maps, rng)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / WARMUP, 0.5 * (1 + np.cos(np.pi * done)))
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(network, images, maps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        ema.update(network)
        step += 1
        losses.append(loss.item())
        if step % 50 == 0:
            print(f"step {step}, {done:.0%}: {np.mean(losses[-50:]):.3f}", flush=True)
    averaged = copy.deepcopy(network)
    ema.copy_to(averaged)
    averaged.eval()
    averaged.config.worth = worth(averaged, pairs, kept)
    averaged.config.training = {
        "seed": seed, "steps": step, "batch_size": BATCH, "images": len(seen),
        "started_from": None if start is None else checkpoint_sha256(start),
    }  # fmt: skip
    return averaged


def main() -> int:
    """Train and write."""
    parser = argparse.ArgumentParser(prog="benchmarks/paper/estimator_train.py")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="an estimator [the recognizer]")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--seed", type=positive, default=1)
    words = parser.parse_args()
    network = train(Pairs(words.data), start=words.start, minutes=words.minutes, seed=words.seed)
    print(network.save_pretrained(words.out), network.config.worth)
    return OK


if __name__ == "__main__":
    run(main)

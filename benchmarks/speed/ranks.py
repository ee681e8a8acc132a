"""Two ranks of `dcar-train` against one: the fastest step by the clock, and whether losses agree.

    python benchmarks/speed/ranks.py

The network of preset `small`, a global batch of 256 latents of 256 px as two micro-batches, fp32,
one thread a rank, gloo, DDP. Each rank needs a core to itself: what else computes slows the two
more than the one, as the slower rank is waited for. Runs of one rank and of two take turns. Exit
code 1 where two ranks are not 1.6 times as fast or a loss differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES, BATCH, STEPS = 64, 256, 4
AT_LEAST = 1.6
SAME = 1e-4
"""Relative difference of a step's loss."""
BIN = Path(sys.executable).parent
TRAIN = (
    "dcar-train model=small init_from=scratch bf16=false device=cpu seed=0 "
    f"batch_size={BATCH} accumulate=2 steps={STEPS} log_every=1 prompts=[] reconstructions=0 "
    "trackers=[] optimizer.warmup_steps=0"
)


def latents(folder: Path) -> Path:
    """A store of noisy images, each with a caption."""
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        coarse.resize((256, 256), Image.Resampling.BICUBIC).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text("a photo of a red apple\n")
    run(["dcht", "encode", str(images), "--out", str(folder / "latents")])
    return folder / "latents"


def run(command: list[str]) -> None:
    """A command of this environment with one thread; its words only where it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")


def steps(ranks: int, store: Path, out: Path) -> list[tuple[float, float]]:
    """Seconds and loss of every step of a run."""
    launcher = f"torchrun --standalone --nproc-per-node {ranks} --no-python " if ranks > 1 else ""
    run([*(launcher + TRAIN).split(), f"data.root={store}", f"out={out}"])
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [(BATCH / row["sequences_per_second"], row["total"]) for row in rows]


def main() -> int:
    """Train, compare, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2, help="the fastest step counts [2]")
    rounds = parser.parse_args().rounds
    least, losses = {1: float("inf"), 2: float("inf")}, {}
    with tempfile.TemporaryDirectory() as folder:
        store = latents(Path(folder))
        for turn in range(rounds):
            for ranks in least:
                found = steps(ranks, store, Path(folder) / f"run-{ranks}-{turn}")
                seconds, losses[ranks] = zip(*found, strict=True)
                least[ranks] = min(least[ranks], *seconds)
                shown = " ".join(f"{each:.2f}" for each in seconds)
                print(f"{ranks} ranks: {shown} s a step, last loss {found[-1][1]:.6f}", flush=True)
    times = least[1] / least[2]
    apart = max(abs(a / b - 1) for a, b in zip(losses[1], losses[2], strict=True))
    print(f"two ranks are {times:.2f} times as fast as one, at least {AT_LEAST}")
    print(f"losses differ by {apart:.1e}, at most {SAME}")
    holds = times >= AT_LEAST and apart <= SAME
    print("both hold" if holds else "NOT within the bounds")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

"""The reference curves of `doctor --compare`: what the first steps of an experiment log.

    python benchmarks/reference_curves.py            # makes all again
    python benchmarks/reference_curves.py dcht/scenes  # makes one
    python benchmarks/reference_curves.py --data DIR # only writes the images that they read

The images are drawn here, from a seed: 48 discs on shades, 64 x 64, each with a caption. A run is
stopped after the steps of its reference. Those of the paper's size are left out: they are no work
for a CPU.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dcht.engine.metrics import METRICS, read_metrics

ROOT = Path(__file__).parents[1]
COLORS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 200)}
COUNT, SIDE = 48, 64
DATA = f"{COUNT} images of benchmarks/reference_curves.py --data DIR"
NOT_KEPT = ("time", "images_per_second", "sequences_per_second", "peak_memory_gib")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is typed, in a folder with `images`, `latents` and `latents512` of them."""

    package: str
    experiment: str
    words: tuple[str, ...]
    steps: int | None = None
    """After which it is stopped; None: it runs to its end."""

    @property
    def name(self) -> str:
        """Of its file: letters, digits and lines."""
        return re.sub(r"\W+", "-", self.experiment).strip("-")


IMAGES, LATENTS = ("data.root=images",), ("data.root=latents",)
RUNS = (
    Run(package="dcht", experiment="tiny", words=IMAGES),
    Run(package="dcht", experiment="scenes", words=IMAGES, steps=100),
    Run(package="dcht", experiment="adapt", words=(*IMAGES, "init_from=bundled"), steps=100),
    Run(package="dcht", experiment="table5", words=IMAGES, steps=100),
    Run(package="dcht", experiment="[table5,no_warmup]", words=IMAGES, steps=100),
    Run(package="dcht", experiment="[table5,alternate_all_trainable]", words=IMAGES, steps=100),
    Run(
        package="dcht", experiment="light_decoder", words=(*IMAGES, "init_from=bundled"), steps=100
    ),
    Run(
        package="dcar",
        experiment="tiny",
        words=("data=folder", *IMAGES, "tokenizer_ckpt=runs/dcht-tiny/tokenizer"),
    ),
    Run(package="dcar", experiment="memorize", words=LATENTS, steps=40),
    Run(package="dcar", experiment="finetune", words=(*LATENTS, "init_from=bundled"), steps=20),
    Run(package="dcar", experiment="scenes256", words=(*LATENTS, "compile=false"), steps=40),
    Run(
        package="dcar",
        experiment="scenes512",
        words=(
            *LATENTS, "data.weight=0.35", "compile=false", "init_from=bundled",
            "data.mixture=[{kind: latents, root: latents512, weight: 0.65}]",
        ),
        steps=20,
    ),
)  # fmt: skip


def write_images(folder: Path) -> None:
    """Discs of three colors on two shades of gray, at random places."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    for number in range(COUNT):
        name = [*COLORS][number % len(COLORS)]
        pixels = np.empty((SIDE, SIDE, 3), np.uint8)
        low, high = sorted(random.integers(90, 240, 2))
        pixels[:] = np.linspace(low, high, SIDE).astype(np.uint8)[:, None, None]
        row, column, radius = random.integers((16, 16, 8), (48, 48, 16))
        pixels[(y - row) ** 2 + (x - column) ** 2 < radius**2] = COLORS[name]
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"a {name} disc\n")


def record(run: Run, work: Path) -> None:
    """Let a run go as far as its reference does, and write that."""
    out = Path("runs") / f"{run.package}-{run.name}"
    words = [f"{run.package}-train", f"+experiment={run.experiment}", *run.words, f"out={out}"]
    with subprocess.Popen(words, cwd=work) as process:
        while process.poll() is None and not reached(work / out, run.steps):
            time.sleep(0.5)
        process.terminate()
    if process.returncode and not reached(work / out, run.steps):
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    pack(work / out, run)


def reached(out: Path, steps: int | None) -> bool:
    """Whether a run is where it is to be stopped."""
    path = out / METRICS
    if steps is None or not path.exists():
        return False
    return any(row["step"] >= steps for row in read_metrics(path))


def pack(out: Path, run: Run) -> None:
    """Write the rows of a run as the reference of a package."""
    rows = read_metrics(out / METRICS)
    if run.steps is not None:
        rows = [row for row in rows if row["step"] <= run.steps]
    rows = [{k: round(v, 6) for k, v in row.items() if k not in NOT_KEPT} for row in rows]
    settings = json.loads((out / "config.json").read_text())
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    text = (
        f'{{"experiment": {json.dumps(run.experiment)},\n "data": {json.dumps(DATA)},\n'
        f' "settings": {json.dumps(settings)},\n "rows": [\n  {lines}\n ]}}\n'
    )
    package = ROOT / "packages" / run.package / "src" / run.package
    path = package / "references" / f"{run.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def main() -> None:
    """Make those that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="PACKAGE/NAME")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    known = [f"{run.package}/{run.name}" for run in RUNS]
    if unknown := sorted(set(arguments.names) - {*known}):
        parser.error(f"{unknown[0]} is none of {', '.join(known)}")
    if arguments.data is not None:
        write_images(arguments.data)
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_images(work / "images")
        for size, latents in (("256", "latents"), ("512", "latents512")):
            words = ["dcht", "encode", "images", "--size", size, "--out", latents]
            subprocess.run(words, cwd=work, check=True)
        for run in RUNS:
            if f"{run.package}/{run.name}" in (arguments.names or known):
                record(run, work)


if __name__ == "__main__":
    main()

"""The tokenizer's and the generator's legs on one machine with a GPU, in so many minutes.

    python benchmarks/paper/gpu_legs.py inputs NODE_MODULES --out INPUTS
    python benchmarks/paper/gpu_legs.py run INPUTS --out OUT --minutes N [--workers W] \\
        [--lpips-weights WEIGHTS]

`inputs` gathers the art that such a machine is sent, at most 60 MB; the rest is made there. `run`
renders scenes of the harder grammar, trains a tokenizer on them from what ships, encodes them with
it, and trains a generator on the latents, each in its share of the time. A few steps of a training
say how fast it is, and so how many it can have. Trainings save every `SAVE_MINUTES`; what is done
is published below OUT (`tokenizer/`, `generator/checkpoint/`), and OUT/legs.jsonl says what each
command took. The same command goes on where a run was stopped. NOT RUN on a GPU so far.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

from dcar_eval.scenes.sprites import VECTOR_SETS, Sprites
from dcar_eval.scenes.things import things
from dcht.commands.common import OK, positive, run
from dcht.errors import UsageError

MOST = 60_000_000
"""Bytes that may be sent to the machine."""
SHARES = {"render": 0.15, "tokenizer": 0.4, "encode": 0.1, "generator": 0.35}
"""Of the minutes."""
MARGIN = 0.85
"""How much of a training's share its steps are planned to take."""
TRIAL = 20
"""Steps that say how fast a training is; also the least that it has."""
SAVE_MINUTES = 2
STAGES = {"continuous_warmup": 0.3, "discrete_learning": 0.4, "alternate_finetune": 0.3}
"""Of the tokenizer's steps."""


class Clock:
    """The minutes that there are, and what they went to."""

    def __init__(self, out: Path, minutes: float) -> None:
        self.log, self.seconds, self.began = out / "legs.jsonl", 60 * minutes, time.monotonic()
        self.share = 0.0

    def begin(self, leg: str) -> None:
        """A leg's share is added to what earlier ones have left of theirs."""
        self.share += SHARES[leg]

    def left(self) -> float:
        """Seconds until the end of the leg's share."""
        return self.share * self.seconds - (time.monotonic() - self.began)

    def call(self, leg: str, name: str, *words: object) -> None:
        """Run a command of this installation and note it.

        Raises:
            UsageError: it failed.
        """
        command, began = [name, *map(str, words)], time.monotonic()
        program = Path(sys.executable).with_name(name)
        code = subprocess.run([program, *command[1:]], check=False).returncode
        row = {"leg": leg, "command": command, "seconds": round(time.monotonic() - began, 1)}
        with self.log.open("a") as log:
            log.write(json.dumps(row | {"exit_code": code}) + "\n")
        if code:
            raise UsageError(f"exit code {code} of: {' '.join(command)}")


def gather(node_modules: Path, out: Path) -> int:
    """Copy what is drawn from: sprites of all things, their labels and vectors; returns bytes.

    Raises:
        UsageError: art is missing, or it is more than `MOST`.
    """
    sprites = Sprites(node_modules, things(), tuple(VECTOR_SETS))
    labels = next(iter(sorted(node_modules.rglob("en/data.json"))))
    vectors = [
        node_modules / package.rsplit("@", 1)[0] / "icons.json" for package in VECTOR_SETS.values()
    ]
    files = [*sprites.files.values(), labels, *vectors]
    total = sum(path.stat().st_size for path in files)
    if total > MOST:
        raise UsageError(
            f"the art is {total / 1e6:.0f} MB; at most {MOST / 1e6:.0f} MB may be sent"
        )
    for path in files:
        place = out / path.relative_to(node_modules)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return total


def render(clock: Clock, words: argparse.Namespace) -> Path:
    """Scenes in parts, of a seed each, until another one might take too long."""
    folder, slowest = words.out / "scenes", 0.0
    clock.begin("render")
    for seed in count():
        if seed and clock.left() < slowest:
            break
        began = time.monotonic()
        clock.call(
            "render", "dcar-eval", "scenes", "--sprites", words.inputs,
            "--out", folder / f"{seed:04d}", "--num", words.part, "--seed", seed,
            "--grammar", "hard", "--objects", words.objects, "--styles", words.styles,
            "--size", words.size, "--workers", words.workers,
        )  # fmt: skip
        slowest = max(slowest, time.monotonic() - began)
    return folder


def rate_of(folder: Path, key: str) -> float:
    """The slowest images a second that a trial logged after its first line."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    rates = [row[key] for row in rows if key in row]
    return min(rates[1:] or rates)


def planned(
    clock: Clock, leg: str, command: list[str], *, key: str, batch_size: int, trial: list[str]
) -> int:
    """How many steps a training can have, which a trial of it says; kept for when it goes on."""
    clock.begin(leg)
    kept = steps_file(clock.log.parent, leg)
    if not kept.exists():
        folder, began = clock.log.with_name(f"{leg}-trial"), time.monotonic()
        clock.call(leg, *command, f"out={folder}", "log_every=5", *trial)
        steps_a_second = rate_of(folder, key) / batch_size
        took = time.monotonic() - began
        # As much again as the trial took, for the start and for what is not a step.
        steps = max(int(MARGIN * (clock.left() - took) * steps_a_second), TRIAL)
        kept.write_text(json.dumps({"steps": steps, "steps_a_second": steps_a_second}) + "\n")
        shutil.rmtree(folder)
    return json.loads(kept.read_text())["steps"]


def steps_file(out: Path, leg: str) -> Path:
    """Where the steps of a training that has begun are kept."""
    return out / f"{leg}-steps.json"


def train_tokenizer(clock: Clock, words: argparse.Namespace, scenes: Path) -> Path:
    """All three stages in one run, from what ships where it has that layout."""
    command = [
        "dcht-train", "+experiment=scenes", f"tokenizer={words.tokenizer}", f"data.root={scenes}",
        f"data.size={words.size}", f"data.crop={words.size}", "data.cache=false",
        f"data.workers={words.workers}", f"batch_size={words.batch_size}", "bf16=true",
        f"save_minutes={SAVE_MINUTES}", "discrete_learning.discrete_prob=0.5",
    ]  # fmt: skip
    if words.init_from:
        command.append(f"init_from={words.init_from}")
    if words.lpips_weights:
        command += [f"loss.lpips_weights={words.lpips_weights}", "loss.lpips=0.3"]
    trial = [f"{stage}.steps={TRIAL}" for stage in STAGES]
    steps = planned(
        clock, "tokenizer", command, key="images_per_second", batch_size=words.batch_size,
        trial=trial,
    )  # fmt: skip
    shares = [f"{stage}.steps={max(int(share * steps), 1)}" for stage, share in STAGES.items()]
    clock.call("tokenizer", *command, f"out={words.out / 'tokenizer-run'}", *shares)
    return publish(words.out / "tokenizer-run" / "tokenizer", words.out / "tokenizer")


def train_generator(
    clock: Clock, words: argparse.Namespace, latents: Path, tokenizer: Path
) -> Path:
    """From random weights: the codes are new."""
    command = [
        "dcar-train", "+experiment=scenes256", f"tokenizer={words.tokenizer}",
        f"model={words.generator}", f"tokenizer_ckpt={tokenizer}", f"data.root={latents}",
        f"batch_size={words.batch_size}", "compile=false", f"save_minutes={SAVE_MINUTES}",
    ]  # fmt: skip
    steps = planned(
        clock, "generator", command, key="sequences_per_second", batch_size=words.batch_size,
        trial=[f"steps={TRIAL}"],
    )  # fmt: skip
    clock.call("generator", *command, f"out={words.out / 'generator'}", f"steps={steps}")
    return words.out / "generator" / "checkpoint"


def publish(made: Path, place: Path) -> Path:
    """A copy of what a run made, where later legs and people find it."""
    shutil.copytree(made, place, dirs_exist_ok=True)
    return place


def legs(words: argparse.Namespace) -> dict[str, Any]:
    """Everything, in order."""
    words.out.mkdir(parents=True, exist_ok=True)
    clock = Clock(words.out, words.minutes)
    scenes = words.out / "scenes"
    if not steps_file(words.out, "tokenizer").exists():  # a training has the images it began with
        scenes = render(clock, words)
    tokenizer = train_tokenizer(clock, words, scenes)
    clock.begin("encode")
    latents = words.out / "latents"
    clock.call(
        "encode", "dcht", "encode", scenes, "--out", latents, "--ckpt", tokenizer,
        "--size", words.size, "--batch-size", words.batch_size, "--device", "auto",
    )  # fmt: skip
    generator = train_generator(clock, words, latents, tokenizer)
    return {
        "tokenizer": str(tokenizer),
        "generator": str(generator),
        "seconds": round(time.monotonic() - clock.began, 1),
    }


def main() -> int:
    """Gather, or run."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/paper/gpu_legs.py", description=(__doc__ or "").partition("\n")[0]
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("inputs", help="what the machine is sent")
    verb.add_argument("node_modules", type=Path)
    verb.add_argument("--out", type=Path, required=True)
    verb = verbs.add_parser("run", help="all legs")
    verb.add_argument("inputs", type=Path)
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--minutes", type=float, required=True)
    verb.add_argument("--workers", type=positive, default=8)
    verb.add_argument("--lpips-weights", type=Path)
    verb.add_argument("--tokenizer", default="small_deep", help="preset of dcht [small_deep]")
    verb.add_argument("--generator", default="small", help="preset of dcar [small]")
    verb.add_argument("--init-from", help="what the tokenizer begins with [random weights]")
    verb.add_argument("--objects", default="things")
    verb.add_argument("--styles", default="3d,noto,flat")
    verb.add_argument("--part", type=positive, default=8000, help="scenes rendered at once [8000]")
    verb.add_argument("--size", type=positive, default=256)
    verb.add_argument("--batch-size", type=positive, default=64)
    words = parser.parse_args()
    if words.verb == "inputs":
        print(f"{gather(words.node_modules, words.out) / 1e6:.1f} MB in {words.out}")
    else:
        print(json.dumps(legs(words)))
    return OK


if __name__ == "__main__":
    run(main)

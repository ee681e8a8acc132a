"""Whether what was only ever run on a CPU holds on this GPU, and how fast it is there.

    make check-gpu                                           # the short form: two minutes
    python benchmarks/speed/check_gpu.py --minutes 20 --out runs/check-gpu
    python benchmarks/speed/check_gpu.py --device cpu --tiny     # every check, where there is none

A row a check, each OK, FAILED or SKIPPED with the reason, in `check_gpu.md` and `check_gpu.json`
below --out. When the minutes are over, what has not begun is skipped. Exit code 0: nothing failed;
1: something did; 2: there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from PIL import Image
from precision import given, last_passes, psnr

from dcar import TextToImage
from dcar.config import PRESETS
from dcar.train.resume import ResumeFolder
from dcar.train.trainer import Trainer
from dcar.train_config import DataConfig, DataKind, OptimizerConfig, Parallel, TrainConfig
from dcar_eval.metrics.random_weights import random_pipeline
from dcar_eval.profile.measure import device_name, measure_speed
from dcar_eval.profile.memory import PeakMemory
from dcht import PRESETS as TOKENIZERS
from dcht import Tokenizer
from dcht.commands.common import FAILED, OK, run
from dcht.device import pick_device
from dcht.engine.distributed import World
from dcht.errors import UsageError
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings

PROMPTS = ["a photo of a red apple", "a photo of a dog", "a photo of two cars", "a blue banana"]
LEAST_DB = 40.0
"""Between half precision and fp32, of the same tokens and noise."""
SAME_DB = 55.0
"""Between compiled and plain: half a level of 255, everywhere."""
SAME_LOSS = 1e-4
"""Relative; atomic additions of a GPU come in any order."""
COMPILE_MINUTES = 10
"""From here on the race is compiled, too."""


class Skipped(Exception):
    """A check that does not apply, and why."""


class Failed(Exception):
    """A check that found something wrong, and what."""


@dataclass
class Session:
    """Where the checks run, and until when."""

    device: torch.device
    tiny: bool
    minutes: float
    folder: Path
    began: float

    def left(self) -> float:
        """Seconds."""
        return self.began + 60 * self.minutes - time.monotonic()

    def pipeline(self, precision: str = "fp32") -> TextToImage:
        """The checkpoint that ships."""
        pipe = TextToImage.from_pretrained(precision=precision, device=self.device)
        if self.tiny:
            pipe.sampling = replace(pipe.sampling, num_steps=2)
        return pipe

    @property
    def prompts(self) -> list[str]:
        """What is drawn."""
        return PROMPTS[:1] if self.tiny else PROMPTS


def least_db(session: Session, other: TextToImage) -> float:
    """The least PSNR of images by the other pipeline to those of fp32, tokens and noise given."""
    plain = session.pipeline()
    prompts = session.prompts
    passes = last_passes(plain, prompts)
    pairs = zip(given(other, prompts, passes), given(plain, prompts, passes), strict=True)
    return min(psnr(*pair) for pair in pairs)


def parity(session: Session, precision: str) -> dict[str, float]:
    """Half precision beside fp32."""
    found = least_db(session, session.pipeline(precision))
    if not found >= LEAST_DB:  # NaN is no parity either
        raise Failed(f"{found:.1f} dB to fp32; at least {LEAST_DB:g} are wanted")
    return {"least_db": found}


def compiled(session: Session) -> dict[str, float]:
    """`pipe.compile()`, on a GPU as CUDA graphs, beside the plain pipeline."""
    if session.tiny:
        raise Skipped("tiny: compiling takes longer than everything else")
    plain, fast = session.pipeline(), session.pipeline().compile()
    found = least_db(session, fast)
    if not found >= SAME_DB:
        raise Failed(f"{found:.1f} dB to the plain pipeline; at least {SAME_DB:g} are wanted")
    seconds = []
    for pipe in (plain, fast):
        speed = measure_speed(
            pipe, batch_size=1, settings=pipe.sampling, size=pipe.size, warmup=2, repeats=3
        )
        seconds.append(speed.fastest)
    return {"least_db": found, "plain_seconds": seconds[0], "compiled_seconds": seconds[1]}


def store(session: Session) -> Path:
    """Latents of sixteen squares of four colors, made once."""
    images, latents = session.folder / "squares", session.folder / "latents"
    if latents.exists():
        return latents
    images.mkdir()
    side = 64 if session.tiny else 256
    for number in range(16):
        color = ("red", "green", "blue", "yellow")[number % 4]
        square = Image.new("RGB", (side, side), "white")
        square.paste(color, (0, 0, side // 2 + 4 * (number // 4), side // 2))
        square.save(images / f"{number:02d}.png")
        (images / f"{number:02d}.txt").write_text(f"a {color} square\n")
    tokenizer = Tokenizer.from_pretrained(device=session.device)
    encode_images(tokenizer, images, latents, EncodeSettings(size=(side, side), batch_size=8))
    return latents


def trainer(session: Session, **changes: Any) -> Trainer:
    """A training of the small model from random weights, in fp32 unless told otherwise."""
    model = PRESETS["small"]
    if session.tiny:
        model = replace(model, generator=replace(model.generator, depth=1))
    settings = {
        "model": model, "tokenizer": TOKENIZERS["small_deep"],
        "init_from": "scratch", "bf16": False,
        "data": DataConfig(kind=DataKind.latents, root=str(store(session))),
        "out": str(session.folder / "run"), "steps": 10_000, "batch_size": 16, "trackers": [],
        "optimizer": OptimizerConfig(lr=1e-3, warmup_steps=0), "device": str(session.device),
    }  # fmt: skip
    return Trainer(TrainConfig(**(settings | changes)), World(0, 1, session.device))


def losses(training: Trainer, steps: int) -> list[float]:
    """The total loss of the next steps."""
    return [training.train_step().scalars["total"] for _ in range(steps)]


def agree(found: list[float], expected: list[float]) -> dict[str, float]:
    """The largest relative difference, or `Failed`."""
    pairs = zip(found, expected, strict=True)
    most = max(abs(one / other - 1) for one, other in pairs)
    if not most <= SAME_LOSS:
        raise Failed(f"losses differ by {most:.1e} of themselves; at most {SAME_LOSS:g} is wanted")
    return {"loss": found[-1], "largest_relative_difference": most}


@contextmanager
def group_of_one(session: Session) -> Iterator[None]:
    """A process group as several ranks have it: nccl on a GPU, gloo on a CPU."""
    import torch.distributed as dist

    cuda = session.device.type == "cuda"
    if not cuda and session.device.type != "cpu":
        raise Skipped(f"no process groups on {session.device.type}")
    meeting = session.folder / f"group-{time.monotonic_ns()}"
    dist.init_process_group(
        "nccl" if cuda else "gloo", init_method=meeting.as_uri(), rank=0, world_size=1,
        device_id=torch.device("cuda", torch.cuda.current_device()) if cuda else None,
    )  # fmt: skip
    try:
        yield
    finally:
        dist.destroy_process_group()


def one_rank(session: Session, parallel: Parallel) -> dict[str, float]:
    """Three steps wrapped as on many ranks, beside three that are not."""
    expected = losses(trainer(session), 3)
    with group_of_one(session):
        return agree(losses(trainer(session, parallel=parallel), 3), expected)


def resume(session: Session) -> dict[str, float]:
    """Two steps after a save, beside the same two of a run that goes on from that save."""
    whole = trainer(session)
    losses(whole, 2)
    with ResumeFolder(session.folder / "resume", whole.world, keep=1) as saves:
        whole.save(saves, {}, wait=True)
        newest = saves.newest()
    assert newest is not None
    expected, again = losses(whole, 2), trainer(session)
    again.load(newest)
    return agree(losses(again, 2), expected)


def raced(session: Session, batch: int) -> dict[str, Any]:
    """The race at the paper's protocol: fp16 and 512 px."""
    from race import Setting, race

    if session.tiny:
        setting = Setting(64, batch, 8, torch.float32, session.device, False, False, "tiny")
        return race(setting, (), rounds=1)["totals"]
    fast = session.minutes >= COMPILE_MINUTES and session.device.type == "cuda"
    setting = Setting(512, batch, 300, torch.float16, session.device, False, fast)
    found = race(setting, ("sana", "pixart"), rounds=2)
    return {"compiled": fast, **found["totals"], **found["ratios"]}


def profiled(session: Session) -> dict[str, float]:
    """Latency, throughput and peak memory of the published size at the paper's protocol."""
    pipe = random_pipeline("tiny" if session.tiny else "dcar_671m")
    if session.tiny:
        pipe.sampling = replace(pipe.sampling, num_steps=2, num_diffusion_steps=2)
    pipe.to(session.device, torch.float32 if session.tiny else torch.float16)
    memory, found = PeakMemory(session.device), {}
    for batch in (1, 16):
        speed = measure_speed(
            pipe, batch_size=batch, settings=pipe.sampling, size=pipe.size, warmup=1, repeats=1
        )
        found[f"seconds_x{batch}"] = speed.seconds
        found |= {f"{part}_x{batch}": seconds for part, seconds in speed.parts.items()}
    return found | {"images_per_second": 16 / found["seconds_x16"], **peak(memory)}


def training(session: Session) -> dict[str, float]:
    """A short training leg in the device's own precision: the loss falls."""
    leg, memory = trainer(session, bf16=None), PeakMemory(session.device)
    rows, began = losses(leg, 12), time.monotonic()
    until = began if session.tiny else began + min(60.0, max(session.left(), 0.0))
    while time.monotonic() < until:
        rows += losses(leg, 10)
    quarter = len(rows) // 4
    first, last = (sum(part) / quarter for part in (rows[:quarter], rows[-quarter:]))
    if not last < first:
        raise Failed(f"after {len(rows)} steps the loss is {last:.3f}, and was {first:.3f}")
    numbers = {"steps": len(rows), "first_loss": first, "last_loss": last, **peak(memory)}
    if len(rows) > 12:
        numbers["steps_per_second"] = (len(rows) - 12) / (time.monotonic() - began)
    return numbers


def peak(memory: PeakMemory) -> dict[str, float]:
    """Peak memory in GiB, where the system says."""
    found = memory.read()
    return {} if found is None else {"peak_gib": found / 2**30}


CHECKS: dict[str, Callable[[Session], dict[str, Any]]] = {
    "fp16 like fp32": lambda session: parity(session, "fp16"),
    "bf16 like fp32": lambda session: parity(session, "bf16"),
    "DDP on one rank": lambda session: one_rank(session, Parallel.ddp),
    "FSDP2 on one rank": lambda session: one_rank(session, Parallel.fsdp2),
    "resume": resume,
    "compile, CUDA graphs": compiled,
    "profile, fp16": profiled,
    "race, batch 1": lambda session: raced(session, 1),
    "race, batch 16": lambda session: raced(session, 16),
    "training leg": training,
}


def run_checks(session: Session) -> list[dict[str, Any]]:
    """Every check in turn; one that fails ends none of the others."""
    rows = []
    for name, check in CHECKS.items():
        status, why, numbers, began = "OK", "", {}, time.monotonic()
        try:
            if session.left() <= 0:
                raise Skipped(f"the {session.minutes:g} minutes are over; give it more")
            numbers = check(session)
        except Skipped as reason:
            status, why = "SKIPPED", str(reason)
        except torch.OutOfMemoryError:
            status, why = "SKIPPED", "more memory than there is"
        except Failed as reason:
            status, why = "FAILED", str(reason)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            status, why = "FAILED", f"{type(error).__name__}: {first}"
        seconds = round(time.monotonic() - began, 1)
        rows.append(
            {"check": name, "status": status, "why": why, "seconds": seconds, "numbers": numbers}
        )
        print(f"{status:8} {name}  {why}", file=sys.stderr, flush=True)
        if session.device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        f"# check-gpu: {found['device']}", "",
        f"torch {found['torch']}, {found['system']}, {found['minutes']:g} minutes"
        f"{', tiny' if found['tiny'] else ''}.", "",
        "| check | result | seconds | numbers |", "|---|---|---|---|",
    ]  # fmt: skip
    for row in found["checks"]:
        numbers = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in row["numbers"].items()
        )
        result = f"{row['status']}: {row['why']}" if row["why"] else row["status"]
        lines.append(
            f"| {row['check']} | {result.replace('|', '/')} | {row['seconds']} | {numbers} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Parse, check, write."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/speed/check_gpu.py", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="no check begins later [2]")
    parser.add_argument("--device", default="cuda", help="cuda[:n]; cpu, to see it run [cuda]")
    parser.add_argument("--tiny", action="store_true", help="tiny models: every line, no numbers")
    parser.add_argument("--out", type=Path, default=Path("runs/check-gpu"))
    words = parser.parse_args()
    if words.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("no GPU here; --device cpu --tiny runs every check on a CPU")
    device = pick_device(words.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with TemporaryDirectory() as folder:
        session = Session(device, words.tiny, words.minutes, Path(folder), time.monotonic())
        rows = run_checks(session)
    found = {
        "device": device_name(device), "torch": torch.__version__, "cuda": torch.version.cuda,
        "system": platform.platform(terse=True), "minutes": words.minutes, "tiny": words.tiny,
        "checks": rows,
    }  # fmt: skip
    words.out.mkdir(parents=True, exist_ok=True)
    (words.out / "check_gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    text = markdown(found)
    (words.out / "check_gpu.md").write_text(text)
    print(text, end="")
    return FAILED if any(row["status"] == "FAILED" for row in rows) else OK


if __name__ == "__main__":
    run(main)

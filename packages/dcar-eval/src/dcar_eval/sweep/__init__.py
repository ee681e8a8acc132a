"""One checkpoint under many sampling settings: quality on the scenes, and cost (Fig. 6, Table 4).

Every point is a folder of `dcar-eval scenes-eval` with the point's speed beside it, so a sweep that
was stopped goes on where it was, and a point can be looked at by itself.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dcar.model import DCAR
from dcar.pipeline import TextToImage
from dcar.pipeline.settings import resolve
from dcar_eval.profile.measure import count_flops, device_name, measure_speed
from dcar_eval.profile.protocol import LATENCY_BATCH, THROUGHPUT_BATCH
from dcar_eval.runs.results import alone, finished, prepare, text_table, this_run, write_results
from dcar_eval.scenes.evaluate import SceneJudges, Truths, evaluate_scenes
from dcar_eval.scenes.prompts import known_objects
from dcar_eval.sweep.axes import NAMED, RESIDUAL, Point, label, points
from dcar_eval.sweep.plot import PLOTS, write_plots
from dcht.errors import UsageError, printable
from dcht.files import read_json, write_atomic

POINTS, SPEED, TABLE = "points", "speed.json", "sweep.csv"


@alone
def run_sweep(
    pipe: TextToImage,
    out: Path,
    axes: Mapping[str, Sequence[Any]],
    *,
    name: str | None = None,
    num_per_task: int = 40,
    seed: int = 0,
    noise_seed: int | None = None,
    objects: tuple[str, ...] | None = None,
    size: int | None = None,
    batch_size: int = 8,
    repeats: int = 3,
    force: bool = False,
    truths: Truths | None = None,
) -> dict[str, Any]:
    """Score and time every combination of the axes; continue where a run stopped.

    Writes `points/NNN/` (what `evaluate_scenes` writes, and `speed.json`), `sweep.csv`,
    `sweep.png`, `sweep.svg` and, last, `results.json`.

    Args:
        pipe: the model.
        out: folder to write.
        axes: values by name of a sampling setting, `preset` or `residual`; see
            `dcar_eval.sweep.axes`.
        name: in `dcar_eval.sweep.axes.NAMED`, whose citations the plot shows.
        num_per_task: prompts of each of the six tasks; the same ones at every point.
        seed: of the prompts; the same at every point.
        noise_seed: of the noise; None: `seed`.
        objects: what prompts are about; None: what the checkpoint knows.
        size: side in pixels; None: the checkpoint's.
        batch_size: images sampled together while scoring. Times are of batch 1 and 16.
        repeats: batches timed at each point.
        force: replace what `out` holds.
        truths: what images are held against; None: `gated` and `fidelity` are estimated.

    Returns:
        The content of `results.json`: `points` (`settings`, `overall`, `stderr`, `tasks`, `gated`,
        `fidelity`, `n`, and `flops` of an image by part), and their times in `run.speed`.

    Raises:
        UsageError: no axes, settings out of range, or `out` holds something else.
    """
    if not axes:
        raise UsageError(f"nothing to sweep: name {' or '.join(NAMED)}, or num_steps=4,8,12")
    found = points({key: list(values) for key, values in axes.items()})
    pipes = [at_point(pipe, point) for point in found]  # what is out of range is refused here
    asked = objects or known_objects(pipe)
    judges = SceneJudges.load(asked, pipe.tokenizer, truths, pipe.device)
    prepare(
        out,
        {
            "sweep": name,
            "axes": {key: list(values) for key, values in axes.items()},
            **pipe.identity,
            **judges.settings(asked, num_per_task=num_per_task, seed=seed),
            "noise_seed": noise_seed,
            "size": size,
            "batch_size": batch_size,
            "repeats": repeats,
        },
        files=(TABLE, *PLOTS),
        force=force,
    )
    if force:
        shutil.rmtree(out / POINTS, ignore_errors=True)
    if (done := finished(out)) is not None:
        return done
    start = time.perf_counter()
    scores, flops, speeds = [], [], []
    for number, pipe_at_point in enumerate(tqdm(pipes, unit="point", desc="sweep", disable=None)):
        folder = out / POINTS / f"{number:03d}"
        scores.append(
            evaluate_scenes(
                pipe_at_point, folder, num_per_task=num_per_task, seed=seed,
                noise_seed=noise_seed, objects=objects, size=size, batch_size=batch_size,
                truths=truths,
            )
        )  # fmt: skip
        side = scores[-1]["settings"]["size"]
        flops.append(count_flops(pipe_at_point, settings=pipe_at_point.sampling, size=(side, side)))
        speeds.append(_speed(pipe_at_point, folder / SPEED, side=side, repeats=repeats))
    shared = scores[0]["settings"]
    results = {
        "task": "sweep",
        "sweep": name,
        "axes": {key: list(values) for key, values in axes.items()},
        "settings": {key: shared[key] for key in SHARED if key in shared} | pipe.identity,
        "recognizer": scores[0]["recognizer"],
        "points": [
            {"settings": point, **_quality(score), "flops": counted}
            for point, score, counted in zip(found, scores, flops, strict=True)
        ],
        "cited": [] if name is None else [list(pair) for pair in NAMED[name].cited.items()],
        "n": sum(score["n"] for score in scores),
        "versions": scores[0]["versions"],
        "run": {**this_run(start, pipe.device), "speed": speeds},
    }
    write_atomic(out / TABLE, as_csv(results).encode())
    write_plots(results, out)
    write_results(out, results)
    return results


SHARED = (
    "recognizer_sha256", "recognisable", "truths", "estimator_sha256", "lpips",
    "sprites_sha256", "lpips_sha256", "split", "objects", "num_per_task", "seed", "noise_seed",
    "size", "batch_size",
)  # fmt: skip
"""Settings of `evaluate_scenes` that all points have in common."""


FIDELITY = ("psnr", "psnr_objects", "ssim", "lpips")
"""What a table shows of it, where it was measured."""


def at_point(pipe: TextToImage, point: Point) -> TextToImage:
    """The same weights with a point's settings as those of the checkpoint.

    Raises:
        UsageError: a setting out of range, or no residual to leave out.
    """
    settings = {key: value for key, value in point.items() if key != RESIDUAL}
    model, sha256 = pipe.model, pipe.sha256
    if RESIDUAL in point and model.head is None:
        raise UsageError("this checkpoint has no residual head: residual cannot be swept")
    if point.get(RESIDUAL) is False:
        with torch.device("meta"):
            model = DCAR(replace(model.config, discrete_only=True))
        model.generator = pipe.model.generator
        sha256 = None  # no checkpoint generates these images
    return TextToImage(
        model,
        pipe.text,
        pipe.tokenizer,
        sampling=resolve(pipe.sampling, settings, any_steps=True),  # type: ignore[arg-type]
        size=pipe.size,
        sha256=sha256,
        rounding=pipe.rounding,
    )


def _quality(scores: dict[str, Any]) -> dict[str, Any]:
    shares = scores["tasks"].values()
    # Of a mean of shares, each of its own images.
    variance = sum(share * (1 - share) for share in shares) / scores["settings"]["num_per_task"]
    return {
        "overall": scores["overall"],
        "stderr": variance**0.5 / len(shares),
        "tasks": scores["tasks"],
        "gated": scores["gated"],
        "fidelity": scores["fidelity"],
        "n": scores["n"],
    }


def _speed(pipe: TextToImage, path: Path, *, side: int, repeats: int) -> dict[str, Any]:
    """Latency and throughput of a point, measured once."""
    if path.exists():
        return read_json(path)
    measured = [
        measure_speed(
            pipe, batch_size=batch, settings=pipe.sampling, size=(side, side), repeats=repeats
        )
        for batch in (LATENCY_BATCH, THROUGHPUT_BATCH)
    ]
    speed = {
        "latency": measured[0].seconds,
        "images_per_second": measured[1].images_per_second,
        "device": device_name(pipe.device),
        "batches": [asdict(one) for one in measured],
    }
    write_atomic(path, json.dumps(speed, indent=1).encode() + b"\n")
    return speed


def _lines(results: dict[str, Any], digits: int | None) -> list[list[str]]:
    """Headings, then a line a point; `digits` None: all there are."""

    def number(value: float) -> str:
        return repr(value) if digits is None else f"{value:.{digits}f}"

    tasks = list(results["points"][0]["tasks"])
    axes = list(results["axes"])
    costs = ["gflop", "latency_s", "images_per_second"]
    first = results["points"][0]
    measured = [name for name in FIDELITY if first["fidelity"][name] is not None]
    lines = [[*axes, "overall", "stderr", *tasks, "gated", *measured, "n", *costs]]
    for point, speed in zip(results["points"], results["run"]["speed"], strict=True):
        values = [point["overall"], point["stderr"], *point["tasks"].values()]
        values.append(point["gated"])
        values += [point["fidelity"][name] for name in measured]
        lines.append(
            [
                *(label(point["settings"][axis]) for axis in axes),
                *map(number, values),
                str(point["n"]),
                number(sum(point["flops"].values()) / 1e9),
                number(speed["latency"]),
                number(speed["images_per_second"]),
            ]
        )
    return lines


def as_csv(results: dict[str, Any]) -> str:
    """A line a point, all digits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_lines(results, None))
    return text.getvalue()


def table(results: dict[str, Any]) -> str:
    """A line a point, for people, and what others say of such points."""
    cited = [printable(f"{value}: {words}") for value, words in results["cited"]]
    return "\n".join([text_table(_lines(results, 3)), *cited])

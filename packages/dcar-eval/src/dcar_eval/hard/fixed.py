"""A benchmark of fixed prompts: images drawn or given, judged and written; the score is its own.

Places are free in such a benchmark, so no image is the true one, and fidelity is estimated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dcar.pipeline import TextToImage
from dcar.pipeline.series import ImageSeries, generate_images
from dcar.pipeline.settings import Settings
from dcar_eval.hard.judge import judge
from dcar_eval.metrics.likeness import RECOGNIZABLE
from dcar_eval.runs.failures import write_failures
from dcar_eval.runs.results import alone, finished, prepare, this_run, versions, write_results
from dcar_eval.scenes.estimator import Estimator
from dcar_eval.scenes.evaluate import FAILURES, PACKAGES, ROWS, require_square
from dcar_eval.scenes.fidelity import Fidelity, mean_fidelity
from dcar_eval.scenes.given import IMAGES, sha256_of
from dcar_eval.scenes.judge import estimate
from dcar_eval.scenes.recognizer import Recognizer
from dcht.checkpoint import to_dict
from dcht.errors import UsageError
from dcht.files import write_atomic
from dcht.images import open_image

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Prompts that are the same for every model, and what judges their images."""

    settings: dict[str, Any]
    """Its name (`benchmark`), `num_per_task`, and what its prompts are."""
    asked: Sequence[Row]
    """A row of `hard.judge.metadata` an image, `prompt` and `tag` among it."""
    recognizer: Path
    """Its folder."""
    scores: Callable[[Sequence[Row]], dict[str, Any]]
    """What the judged rows say; they have `correct` and `gated`."""


def evaluate_fixed(
    benchmark: Benchmark,
    pipe: TextToImage,
    out: Path,
    *,
    seed: int,
    size: int | None,
    batch_size: int,
    force: bool,
    sampling: Settings | None,
) -> dict[str, Any]:
    """Draw, judge and report; continue where a run stopped.

    Writes what `dcar_eval.scenes.evaluate` writes.

    Args:
        benchmark: what is asked.
        pipe: the model.
        out: folder to write.
        seed: of the noise; not negative.
        size: side in pixels; None: the checkpoint's, which must be square.
        batch_size: images sampled together.
        force: replace what `out` holds.
        sampling: settings in place of the checkpoint's.

    Raises:
        UsageError: settings out of range, or `out` holds something else.
        CheckpointError: the recognizer or the estimator is missing or damaged.
    """
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; 0 or more")
    height, width = (size, size) if size else pipe.size
    require_square(height, width)
    judges = _Judges.load(benchmark, pipe.device)
    chosen = pipe.settings(**(sampling or {}))
    settings = {
        **benchmark.settings,
        **pipe.identity,
        **judges.settings(),
        "seed": seed,
        "size": height,
        "sampling": to_dict(chosen),
        "batch_size": batch_size,
    }
    prepare(out, settings, files=(ROWS, FAILURES), force=force)
    if (done := finished(out)) is not None:
        return done
    start = time.perf_counter()
    plan = ImageSeries(
        prompts=[row["prompt"] for row in benchmark.asked],
        verdicts=[None] * len(benchmark.asked),
        seed=seed,
        height=height,
        width=width,
        settings=chosen,
        batch_size=batch_size,
    )
    files = generate_images(pipe, plan, out / IMAGES, force=force)
    return judges.report(benchmark, files, out, settings, start)


@alone
def judge_fixed(
    benchmark: Benchmark, files: list[Path], out: Path, *, device: torch.device, force: bool = False
) -> dict[str, Any]:
    """Judge images that are there, one for each row that is asked, as those of a model are.

    Args:
        benchmark: what they should show.
        files: the images, square.
        out: folder to write.
        device: where the recognizer runs.
        force: replace what `out` holds.

    Raises:
        UsageError: `out` holds something else.
        CheckpointError: the recognizer or the estimator is missing or damaged.
    """
    judges = _Judges.load(benchmark, device)
    settings = {"images_sha256": sha256_of(files), **benchmark.settings, **judges.settings()}
    prepare(out, settings, files=(ROWS, FAILURES), force=force)
    if (done := finished(out)) is not None:
        return done
    return judges.report(benchmark, files, out, settings, time.perf_counter())


@dataclass(frozen=True, kw_only=True)
class _Judges:
    """What judges the images."""

    recognizer: Recognizer
    recognizer_sha256: str
    estimator: Estimator
    estimator_sha256: str
    device: torch.device

    @classmethod
    def load(cls, benchmark: Benchmark, device: torch.device) -> _Judges:
        recognizer, recognizer_sha256 = Recognizer.from_pretrained(benchmark.recognizer)
        estimator, estimator_sha256 = Estimator.from_pretrained()
        return cls(
            recognizer=recognizer.to(device),
            recognizer_sha256=recognizer_sha256,
            estimator=estimator.to(device),
            estimator_sha256=estimator_sha256,
            device=device,
        )

    def settings(self) -> dict[str, Any]:
        return {
            "recognizer_sha256": self.recognizer_sha256,
            "estimator_sha256": self.estimator_sha256,
            "recognisable": RECOGNIZABLE,
        }

    def report(
        self,
        benchmark: Benchmark,
        files: Sequence[Path],
        out: Path,
        settings: dict[str, Any],
        start: float,
    ) -> dict[str, Any]:
        """Judge the images and write what was found; `results.json` comes last."""
        rows, beside_truth = _judge(self.recognizer, self.estimator, files, benchmark.asked)
        write_atomic(out / ROWS, "".join(json.dumps(row) + "\n" for row in rows).encode())
        wrong = [row for row in rows if not row["correct"]]
        write_failures(out / FAILURES, wrong, files[0].parent)
        results = {
            "task": "scenes",
            "benchmark": settings["benchmark"],
            **benchmark.scores(rows),
            "fidelity": {**mean_fidelity(beside_truth), "ceiling": None, "estimated": True},
            "recognizer": {"sha256": self.recognizer_sha256, **self.recognizer.config.ceiling},
            "settings": settings,
            "n": len(rows),
            "versions": versions(PACKAGES),
            "run": this_run(start, self.device),
        }
        write_results(out, results)
        return results


def _judge(
    recognizer: Recognizer,
    estimator: Estimator,
    files: Sequence[Path],
    asked: Sequence[Row],
) -> tuple[list[Row], list[Fidelity]]:
    rows: list[Row] = []
    beside_truth: list[Fidelity] = []
    pairs = zip(files, asked, strict=True)
    for file, metadata in tqdm(pairs, total=len(files), unit="img", desc="judge", disable=None):
        image = open_image(file)
        (found,) = recognizer.detect([image])
        verdict = judge(metadata, found, recognizer.config.options, image.width)
        beside = estimate(estimator, image, found, recognizer.config.options)
        beside_truth.append(beside)
        rows.append(
            {
                "file": file.name,
                "tag": metadata["tag"],
                "prompt": metadata["prompt"],
                "correct": verdict.correct,
                "reason": verdict.reason,
                "details": verdict.details,
                "gated": verdict.correct and beside.recognizable,
                "fidelity": asdict(beside),
                "metadata": metadata,
            }
        )
    return rows, beside_truth

"""A benchmark of fixed prompts: images drawn, judged and written; what they score is its own.

Places are free in such a benchmark, so no image is the true one, and fidelity is estimated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dcar.pipeline import TextToImage
from dcar.pipeline.series import ImageSeries, generate_images
from dcar.pipeline.settings import Settings
from dcar_eval.hard.judge import judge
from dcar_eval.metrics.likeness import RECOGNIZABLE
from dcar_eval.runs.failures import write_failures
from dcar_eval.runs.results import finished, prepare, this_run, versions, write_results
from dcar_eval.scenes.estimator import Estimator
from dcar_eval.scenes.evaluate import FAILURES, PACKAGES, ROWS, require_square
from dcar_eval.scenes.fidelity import Fidelity, mean_fidelity
from dcar_eval.scenes.given import IMAGES
from dcar_eval.scenes.judge import estimate
from dcar_eval.scenes.recognizer import Recognizer
from dcht.checkpoint import to_dict
from dcht.errors import UsageError
from dcht.files import write_atomic
from dcht.images import open_image

Row = dict[str, Any]


def evaluate_fixed(
    pipe: TextToImage,
    out: Path,
    *,
    asked: Sequence[Row],
    recognizer: Path,
    settings: dict[str, Any],
    scores: Callable[[Sequence[Row]], dict[str, Any]],
    seed: int,
    size: int | None,
    batch_size: int,
    force: bool,
    sampling: Settings | None,
) -> dict[str, Any]:
    """Draw, judge and report; continue where a run stopped.

    Writes what `dcar_eval.scenes.evaluate` writes.

    Args:
        pipe: the model.
        out: folder to write.
        asked: a row of `hard.judge.metadata` an image, `prompt` and `tag` among it.
        recognizer: its folder.
        settings: of the benchmark: its name, and what its prompts are.
        scores: what the judged rows say; they have `correct` and `gated`.
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
    judge_of, sha256 = Recognizer.from_pretrained(recognizer)
    estimator, estimator_sha256 = Estimator.from_pretrained()
    judge_of.to(pipe.device)
    estimator.to(pipe.device)
    chosen = pipe.settings(**(sampling or {}))
    settings = {
        **settings,
        **pipe.identity,
        "recognizer_sha256": sha256,
        "estimator_sha256": estimator_sha256,
        "recognisable": RECOGNIZABLE,
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
        prompts=[row["prompt"] for row in asked],
        verdicts=[None] * len(asked),
        seed=seed,
        height=height,
        width=width,
        settings=chosen,
        batch_size=batch_size,
    )
    files = generate_images(pipe, plan, out / IMAGES, force=force)
    rows, beside_truth = _judge(judge_of, estimator, files, asked)
    write_atomic(out / ROWS, "".join(json.dumps(row) + "\n" for row in rows).encode())
    write_failures(out / FAILURES, [row for row in rows if not row["correct"]], out / IMAGES)
    results = {
        "task": "scenes",
        "benchmark": settings["benchmark"],
        **scores(rows),
        "fidelity": {**mean_fidelity(beside_truth), "ceiling": None, "estimated": True},
        "recognizer": {"sha256": sha256, **judge_of.config.ceiling},
        "settings": settings,
        "n": len(rows),
        "versions": versions(PACKAGES),
        "run": this_run(start, pipe.device),
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

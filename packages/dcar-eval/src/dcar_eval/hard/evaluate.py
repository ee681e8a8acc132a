"""The harder benchmark: its fixed prompts, drawn by a model, judged in two columns.

`unseen` prompts show a combination that no training set shows, `seen` ones none. The score is that
of the unseen ones. Intervals draw prompts anew, each with all its pictures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dcar.pipeline import TextToImage
from dcar.pipeline.series import ImageSeries, generate_images
from dcar.pipeline.settings import Settings
from dcar_eval.geneval.summary import Judged, intervals, summarize
from dcar_eval.hard.judge import judge
from dcar_eval.hard.prompts import SHA256, prompts
from dcar_eval.hard.recognizing import BUNDLED
from dcar_eval.runs.failures import write_failures
from dcar_eval.runs.results import (
    alone,
    finished,
    prepare,
    text_table,
    this_run,
    versions,
    write_results,
)
from dcar_eval.scenes.evaluate import FAILURES, PACKAGES, ROWS, require_square
from dcar_eval.scenes.given import IMAGES
from dcar_eval.scenes.recognizer import Recognizer
from dcht.checkpoint import to_dict
from dcht.errors import UsageError
from dcht.files import write_atomic
from dcht.images import open_image


@alone
def evaluate_hard(
    pipe: TextToImage,
    out: Path,
    *,
    num_per_task: int = 40,
    seed: int = 0,
    size: int | None = None,
    batch_size: int = 8,
    force: bool = False,
    sampling: Settings | None = None,
) -> dict[str, Any]:
    """Draw, judge and report; continue where a run stopped.

    Writes what `dcar_eval.scenes.evaluate` writes.

    Args:
        pipe: the model.
        out: folder to write.
        num_per_task: pictures of each of the seven tasks in each of the two columns; from the 41st
            on they are more pictures of the same prompts.
        seed: of the noise; not negative. The prompts are fixed.
        size: side in pixels; None: the checkpoint's, which must be square.
        batch_size: images sampled together.
        force: replace what `out` holds.
        sampling: settings in place of the checkpoint's.

    Returns:
        The content of `results.json`: `unseen` and `seen` (each `overall`, `tasks`, `intervals`,
        `n`, and `distinct`: prompts, and combinations that are held out), `overall` and `tasks`
        (those of `unseen`), `recognizer`, `settings`, `n`, `versions`, `run`. `gated` is null, and
        so is all of `fidelity`: places are free, so no picture is the true one.

    Raises:
        UsageError: settings out of range, or `out` holds something else.
        CheckpointError: the bundled recogniser or the prompts are missing or damaged.
    """
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; 0 or more")
    height, width = (size, size) if size else pipe.size
    require_square(height, width)
    recognizer, sha256 = Recognizer.from_pretrained(BUNDLED)
    recognizer.to(pipe.device)
    chosen = pipe.settings(**(sampling or {}))
    settings = {
        "benchmark": "hard",
        "prompts_sha256": SHA256,
        **pipe.identity,
        "recognizer_sha256": sha256,
        "num_per_task": num_per_task,
        "seed": seed,
        "size": height,
        "sampling": to_dict(chosen),
        "batch_size": batch_size,
    }
    prepare(out, settings, files=(ROWS, FAILURES), force=force)
    if (done := finished(out)) is not None:
        return done
    start = time.perf_counter()
    asked = prompts(num_per_task)
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
    rows = _judge(recognizer, files, asked)
    write_atomic(out / ROWS, "".join(json.dumps(row) + "\n" for row in rows).encode())
    write_failures(out / FAILURES, [row for row in rows if not row["correct"]], out / IMAGES)
    columns = {
        name: _column([row for row in rows if row["metadata"]["seen"] == seen])
        for name, seen in (("unseen", False), ("seen", True))
    }
    results = {
        "task": "scenes",
        "benchmark": "hard",
        "overall": columns["unseen"]["overall"],
        "tasks": columns["unseen"]["tasks"],
        "gated": None,
        "fidelity": dict.fromkeys(
            ("psnr", "psnr_objects", "ssim", "lpips", "ceiling", "estimated")
        ),
        **columns,
        "recognizer": {"sha256": sha256, **recognizer.config.ceiling},
        "settings": settings,
        "n": len(rows),
        "versions": versions(PACKAGES),
        "run": this_run(start, pipe.device),
    }
    write_results(out, results)
    return results


def _judge(
    recognizer: Recognizer, files: Sequence[Path], asked: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    rows = []
    pairs = zip(files, asked, strict=True)
    for file, metadata in tqdm(pairs, total=len(files), unit="img", desc="judge", disable=None):
        picture = open_image(file)
        (found,) = recognizer.detect([picture])
        verdict = judge(metadata, found, recognizer.config.options, picture.width)
        rows.append(
            {
                "file": file.name,
                "tag": metadata["tag"],
                "prompt": metadata["prompt"],
                "correct": verdict.correct,
                "reason": verdict.reason,
                "details": verdict.details,
                "metadata": metadata,
            }
        )
    return rows


def _column(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The scores of seen or unseen prompts, and how many different ones they are."""
    numbers = {prompt: k for k, prompt in enumerate(dict.fromkeys(row["prompt"] for row in rows))}
    judged = [Judged(numbers[row["prompt"]], row["tag"], row["correct"]) for row in rows]
    summary = summarize(judged)
    overall, by_task = intervals(judged)
    shown = {tuple(c) for row in rows for c in row["metadata"]["shows"]}
    return {
        "overall": summary.overall,
        "tasks": {name: score.value for name, score in summary.tasks.items()},
        "intervals": {"overall": list(overall), **{k: list(v) for k, v in by_task.items()}},
        "n": len(rows),
        "distinct": {"prompts": len(numbers), "combinations": len(shown)},
    }


def table(results: dict[str, Any]) -> str:
    """What people read: unseen beside seen beside the recogniser's own score."""
    unseen, seen, own = results["unseen"], results["seen"], results["recognizer"]
    lines = [["task", "unseen", "95 %", "seen", "95 %", "recogniser alone"]]
    for name in ("overall", *unseen["tasks"]):
        cells: list[str] = [name]
        for column in (unseen, seen):
            share = column["overall"] if name == "overall" else column["tasks"][name]
            low, high = column["intervals"][name]
            cells += [f"{share:.3f}", f"{low:.2f} to {high:.2f}"]
        most = own["overall"] if name == "overall" else own["tasks"][name]
        lines.append([*cells, f"{most:.3f}"])
    for key in ("prompts", "combinations"):
        counts = str(unseen["distinct"][key]), str(seen["distinct"][key])
        lines.append([f"different {key}", counts[0], "", counts[1], "", ""])
    return text_table(lines)

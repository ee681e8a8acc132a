"""A benchmark of questions from images to scores; it can be stopped, shared out and continued."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from dcar.pipeline.record import pixels_sha256
from dcar_eval.runs.journal import ERRORS, ROWS, STATE, Journal
from dcar_eval.runs.judging import judge_images
from dcar_eval.runs.results import CONTENT, hash_all, hash_contents, this_run, versions
from dcar_eval.runs.run import Run
from dcar_eval.runs.shares import Gathered, Share
from dcar_eval.vqa.judge import SMOKE, Judge, check_judge
from dcar_eval.vqa.questions import Benchmark, Item
from dcar_eval.vqa.sources import IMAGES, Asked, AskedSource
from dcht.data.entries import file_entry
from dcht.errors import UsageError

PACKAGES = ("dcar-eval", "dcar", "dcht", "torch", "transformers", "numpy", "pillow")


def protocol(benchmark: Benchmark, judge: Judge) -> dict[str, str]:
    """Every line in words, the judge's name, and the hash of them all."""
    described = {"name": f"{benchmark.name}[{judge.label}]", **benchmark.protocol}
    text = json.dumps(described, sort_keys=True)
    return described | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def evaluate_questions(
    benchmark: Benchmark,
    source: AskedSource,
    out: Path,
    *,
    judge: Judge,
    share: Share | None = None,
    force: bool = False,
    strict: bool = False,
) -> dict[str, Any] | None:
    """Generate what is missing, ask about every image, report; continue where a run stopped.

    Writes `images.jsonl` (a row an image: its scores), `errors.jsonl` (what could not be read) and,
    last, `results.json`.

    Args:
        benchmark: what is asked, and how it is scored.
        source: the images.
        out: folder to write.
        judge: who answers.
        share: what this process does of it, in prompts; None: all.
        force: replace what `out` holds.
        strict: stop at the first image that cannot be read.

    Returns:
        The content of `results.json`; None while other shares have not come to their end.

    Raises:
        UsageError: `out` holds something else, or no image can be read.
        CheckpointError: the judge fails on a known image.
    """
    share = share or Share()
    described = protocol(benchmark, judge)
    contents = hash_contents(source.given)
    settings = {
        "protocol": described["name"],
        "protocol_sha256": described["sha256"],
        "judge_sha256": judge.sha256,
        "judge_dtype": judge.dtype,
        "prompts_sha256": benchmark.sha256,
        "prompts": len(source.items),
        **source.settings,
        CONTENT: hash_all(contents),
    }
    run = Run(
        out=out,
        settings=settings,
        written=(STATE, ROWS, ERRORS),
        names=[image.label for image in source.images],
        batches=[list(group) for _, group in groupby(source.images, lambda image: image.key)],
        share=share,
        contents=contents,
        force=force,
    )
    folder = source.folder or out / IMAGES
    numbers = {image.label: number for number, image in enumerate(source.images)}
    items = {item.key: item for item in source.items}
    check: dict[str, Any] = {}

    def measure(journal: Journal, batches: list[list[Asked]]) -> None:
        check.update(check_judge(judge))
        if source.generate is not None:
            source.generate(out / IMAGES, [batch[0].key for batch in batches], force)
        judge_images(
            batches,
            lambda image: _judged(judge, benchmark, items[image.key], folder, image),
            journal,
            name=lambda image: image.label,
            numbers=numbers,
            folder=folder,
            strict=strict,
        )

    def summarize(gathered: Gathered) -> dict[str, Any]:
        if not gathered.rows:
            raise UsageError(f"none of the {len(source.images)} images could be read: see {out}")
        scored = [(items[row["key"]], row) for row in gathered.rows]
        absent = _missing(benchmark, source.items, gathered.rows)
        return {
            "task": benchmark.name,
            "protocol": described,
            "settings": settings,
            "scores": benchmark.summarize(scored),
            "n": len(gathered.rows),
            "skipped": len(gathered.errors),
            "missing": absent,
            "not_comparable": _reasons(benchmark, source, judge, complete=not absent),
            "self_check": check,
            "versions": versions(PACKAGES),
            "run": this_run(run.started, judge.device),
        }

    return run.finish(measure, summarize)


def _judged(
    judge: Judge, benchmark: Benchmark, item: Item, folder: Path, image: Asked
) -> dict[str, Any]:
    pixels = image.cut(file_entry(str(folder / image.name), image.name).open())
    answers = judge.answer(pixels, item.questions)
    return {
        "key": item.key,
        "prompt": item.prompt,
        **benchmark.score(item, answers),
        "pixels_sha256": pixels_sha256(pixels),
    }


def _missing(
    benchmark: Benchmark, items: Sequence[Item], rows: Sequence[dict[str, Any]]
) -> list[str]:
    """What is not there of the images of each prompt, in words."""
    counts = Counter(row["key"] for row in rows)
    return [
        f"{item.key} has {counts[item.key]} of {benchmark.images} images"
        for item in items
        if counts[item.key] != benchmark.images
    ]


def _reasons(
    benchmark: Benchmark, source: AskedSource, judge: Judge, *, complete: bool
) -> list[str]:
    """Why the scores are none of the benchmark's; empty if they are."""
    reasons = []
    if judge.label == SMOKE:
        reasons.append("the judge has random weights (--smoke): the scores mean nothing")
    elif judge.label != benchmark.judge:
        reasons.append(f"published scores are {benchmark.judge}'s; this judge is {judge.label}")
    if benchmark.file:
        reasons.append(f"--prompts is not the published file; {benchmark.file}")
    if len(source.items) != benchmark.size or not complete:
        reasons.append(
            f"not {benchmark.images} image(s) of each of the benchmark's {benchmark.size:,} prompts"
        )
    return reasons

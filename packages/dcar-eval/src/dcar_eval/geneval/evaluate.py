"""GenEval from images to scores; it can be stopped, shared out and continued."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from dcar.pipeline.record import pixels_sha256
from dcar_eval.geneval.layout import Sample, missing
from dcar_eval.geneval.mmdet import PUBLISHED_SHA256
from dcar_eval.geneval.networks import SMOKE, Judges, check_networks
from dcar_eval.geneval.prompts import SAMPLES, SHA256, metadata
from dcar_eval.geneval.rules import Options, evaluate_detections
from dcar_eval.geneval.sources import IMAGES, SampleSource
from dcar_eval.geneval.summary import Judged, intervals, summarize
from dcar_eval.runs.failures import write_failures
from dcar_eval.runs.journal import ERRORS, ROWS, STATE, Journal
from dcar_eval.runs.judging import judge_images
from dcar_eval.runs.results import (
    CONTENT,
    hash_all,
    hash_contents,
    this_run,
    versions,
)
from dcar_eval.runs.run import Run
from dcar_eval.runs.shares import Gathered, Share
from dcht.data.entries import file_entry
from dcht.errors import UsageError
from dcht.files import write_atomic

FAILURES, SUMMARY = "failures.png", "summary.txt"
PACKAGES = ("dcar-eval", "dcar", "dcht", "torch", "transformers", "numpy", "pillow")
PROTOCOL = {
    "prompts": f"the benchmark's 553, SHA-256 {SHA256}",
    "images": "four of each prompt, transparency on white",
    "resize": "bilinear without antialiasing to fit 1333 x 800, 8 bits, padded to 32",
    "detections": "mmdet's instance_postprocess: 100 pairs, class x mean mask probability",
    "options": json.dumps(asdict(Options())),
    "colors": "CLIP, three phrases, crop to the box over #999 outside the mask, fp32",
    "overall": "mean of the six tasks' means",
}


def protocol(label: str) -> dict[str, str]:
    """Every line in words, the label of the detector's weights, and the hash of them all."""
    described = {"name": f"geneval[{label}]", **PROTOCOL}
    text = json.dumps(described, sort_keys=True)
    return described | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def evaluate_geneval(
    source: SampleSource,
    out: Path,
    *,
    networks: Judges,
    share: Share | None = None,
    force: bool = False,
    strict: bool = False,
) -> dict[str, Any] | None:
    """Generate what is missing, judge every image, report; continue where a run stopped.

    Writes `images.jsonl` (a row an image: verdict, reason, what was found), `errors.jsonl` (what
    could not be read), `failures.png`, `summary.txt` (as the benchmark's script prints it) and,
    last, `results.json`.

    Args:
        source: the images.
        out: folder to write.
        networks: what judges them.
        share: what this process does of it, in prompts; None: all.
        force: replace what `out` holds.
        strict: stop at the first image that cannot be read.

    Returns:
        The content of `results.json`; None while other shares have not come to their end.
        `overall` is None unless all 2,212 images were judged.

    Raises:
        UsageError: `out` holds something else, or no image can be read.
        CheckpointError: the networks fail on known images.
    """
    share = share or Share()
    described = protocol(networks.detector.label)
    contents = hash_contents(source.given)
    settings = {
        "protocol": described["name"],
        "protocol_sha256": described["sha256"],
        "detector_sha256": networks.detector.sha256,
        "clip_sha256": networks.colors.sha256,
        "prompts": len(source.prompts),
        **source.settings,
        CONTENT: hash_all(contents),
    }
    run = Run(
        out=out,
        settings=settings,
        written=(STATE, ROWS, ERRORS, FAILURES, SUMMARY),
        names=[sample.name for sample in source.samples],
        batches=[list(group) for _, group in groupby(source.samples, lambda one: one.prompt)],
        share=share,
        contents=contents,
        force=force,
    )
    folder = source.folder or out / IMAGES
    numbers = {sample.name: number for number, sample in enumerate(source.samples)}
    check: dict[str, Any] = {}

    def measure(journal: Journal, batches: list[list[Sample]]) -> None:
        check.update(check_networks(networks))
        if source.generate is not None:
            source.generate(out / IMAGES, [batch[0].prompt for batch in batches], force)
        rows = metadata()
        judge_images(
            batches,
            lambda sample: _judge(networks, folder / sample.name, rows[sample.prompt]),
            journal,
            name=lambda sample: sample.name,
            numbers=numbers,
            folder=folder,
            strict=strict,
        )

    def summarize(gathered: Gathered) -> dict[str, Any]:
        if not gathered.rows:
            raise UsageError(f"none of the {len(source.samples)} images could be read: see {out}")
        write_failures(out / FAILURES, [r for r in gathered.rows if not r["correct"]], folder)
        return {
            "task": "geneval",
            "protocol": described,
            "settings": settings,
            **_scores(gathered, source, networks, out),
            "self_check": check,
            "versions": versions(PACKAGES),
            "run": this_run(run.started, networks.detector.model.device),
        }

    return run.finish(measure, summarize)


def _judge(networks: Judges, file: Path, row: dict[str, Any]) -> dict[str, Any]:
    image = file_entry(str(file), file.name).open()
    verdict = evaluate_detections(row, networks.look_at(image))
    return {
        "tag": row["tag"],
        "prompt": row["prompt"],
        "correct": verdict.correct,
        "reason": verdict.reason,
        "details": verdict.details,
        "pixels_sha256": pixels_sha256(image),
        "metadata": row,
    }


def _scores(
    gathered: Gathered, source: SampleSource, networks: Judges, out: Path
) -> dict[str, Any]:
    """The scores, and what keeps them from being compared."""
    prompt_of = {sample.name: sample.prompt for sample in source.samples}
    rows = [(prompt_of[row["file"]], row) for row in gathered.rows]
    judged = [Judged(prompt, row["tag"], row["correct"]) for prompt, row in rows]
    absent = missing([Sample(prompt, row["file"]) for prompt, row in rows], source.prompts)
    complete = not absent and len(source.prompts) == len(metadata())
    summary = summarize(judged)
    overall, by_task = intervals(judged)
    write_atomic(out / SUMMARY, summary.text(overall=complete).encode())
    return {
        "overall": summary.overall if complete else None,
        "tasks": {name: score.value for name, score in summary.tasks.items()},
        "intervals": {"overall": overall if complete else None, **by_task},
        "counts": summary.tasks,
        "correct_images": summary.correct_images,
        "correct_prompts": summary.correct_prompts,
        "n": len(rows),
        "skipped": len(gathered.errors),
        "missing": absent,
        "duplicates": _duplicates(rows),
        "not_comparable": _reasons(source, networks, len(rows), complete=complete),
    }


def _duplicates(rows: Sequence[tuple[int, dict[str, Any]]]) -> list[str]:
    """Images that another one of their prompt equals, pixel by pixel."""
    first: dict[tuple[int, str], str] = {}
    found = []
    for prompt, row in rows:
        same = first.setdefault((prompt, row["pixels_sha256"]), row["file"])
        if same != row["file"]:
            found.append(f"{row['file']} is the same image as {same}")
    return found


def _reasons(source: SampleSource, networks: Judges, n: int, *, complete: bool) -> list[str]:
    """Why the scores are none of the benchmark's; empty if they are."""
    reasons = []
    detector = networks.detector
    if detector.label == SMOKE:
        reasons.append("detector and CLIP have random weights (--smoke): the scores mean nothing")
    if detector.label == "mmdet-weights" and not str(detector.sha256).startswith(PUBLISHED_SHA256):
        reasons.append(
            f"{detector.name} is not the benchmark's detector: its SHA-256 begins with "
            f"{str(detector.sha256)[:8]}, not {PUBLISHED_SHA256}"
        )
    if source.rewritten:
        reasons.append(f"{len(source.rewritten)} prompts are not in the benchmark's words")
    if not complete:
        whole = SAMPLES * len(metadata())
        reasons.append(f"{n:,} of the benchmark's {whole:,} images: no Overall")
    return reasons

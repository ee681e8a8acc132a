"""The scenes benchmark: held-out prompts, drawn by a model, judged by GenEval's rules.

Offline and exact but for the recogniser, whose own score on true scenes stands beside the model's.
It is called sprite-GenEval for its rules; its numbers compare with nothing but themselves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dcar.generate import Plan, generate_images
from dcar.pipeline import TextToImage
from dcar.settings import Settings
from dcar_eval.failures import write_failures
from dcar_eval.geneval import evaluate_detections
from dcar_eval.results import alone, finished, prepare, this_run, versions, write_results
from dcar_eval.scenes.captions import captions, plural
from dcar_eval.scenes.dataset import geneval_metadata
from dcar_eval.scenes.draw import draw_scene
from dcar_eval.scenes.recognizer import Recognizer
from dcar_eval.scenes.world import BENCHMARK, SPRITE_LABELS, WORLDS, Split
from dcht.checkpoint import to_dict
from dcht.errors import UsageError
from dcht.files import write_atomic
from dcht.images import open_image

ROWS, FAILURES, IMAGES = "images.jsonl", "failures.png", "images"
PACKAGES = ("dcar-eval", "dcar", "dcht", "torch", "numpy", "pillow")
TRAINING_PER_TASK = 8
"""Pictures of each task that are drawn while a generator trains."""


def known_objects(pipe: TextToImage) -> tuple[str, ...]:
    """The objects that a checkpoint was trained on, as far as its words tell.

    An object is known if every word of its name is, in the singular and in the plural ("orange"
    is a colour too; "oranges" are not). Where the thirty of `wide` are among them, they are these
    alone: the same prompts, whatever else a checkpoint knows.

    Raises:
        UsageError: the text encoder reads any text, or knows fewer than two objects.
    """
    words = pipe.text.known_words()
    if words is None:
        raise UsageError(
            "this checkpoint's text encoder knows every word, so its objects cannot be told from "
            "it; name them (--objects all, or names by commas)"
        )
    known = set(words)
    found = tuple(sorted(n for n in SPRITE_LABELS if {*n.split(), *plural(n).split()} <= known))
    if len(found) < 2:
        raise UsageError(
            f"this checkpoint was not trained on scenes: of their 62 objects it knows {len(found)}"
        )
    wide = WORLDS["wide"]
    return wide if set(wide) <= set(found) else found


def draw_prompts(objects: tuple[str, ...], *, num_per_task: int, seed: int) -> list[dict[str, Any]]:
    """Rows of GenEval's prompt file, task after task: held-out combinations of these objects.

    Prompt k of a task is a function of (seed, task, k) and the objects. There are few held-out
    counts: where a combination comes again, the picture has other noise.
    """
    rows = []
    for number, task in enumerate(BENCHMARK):
        for index in range(num_per_task):
            rng = np.random.default_rng([seed, number, index])
            scene = draw_scene(objects, Split.HELD_OUT, rng, task)
            rows.append(geneval_metadata(scene, captions(scene)[0]))
    return rows


@alone
def evaluate_scenes(
    pipe: TextToImage,
    out: Path,
    *,
    num_per_task: int = 40,
    seed: int = 0,
    objects: tuple[str, ...] | None = None,
    size: int | None = None,
    batch_size: int = 8,
    force: bool = False,
    sampling: Settings | None = None,
) -> dict[str, Any]:
    """Draw, judge and report; continue where a run stopped.

    Writes `images/NNNNN.png`, `images.jsonl` (a row an image: prompt, verdict, reason, what was
    found), `failures.png` and, last, `results.json`.

    Args:
        pipe: the model.
        out: folder to write.
        num_per_task: prompts of each of the six tasks, one image each.
        seed: of the prompts and of the noise; not negative.
        objects: what prompts are about; None: what the checkpoint knows.
        size: side in pixels; None: the checkpoint's, which must be square.
        batch_size: images sampled together.
        force: replace what `out` holds.
        sampling: settings in place of the checkpoint's.

    Returns:
        The content of `results.json`: `overall` (mean of the tasks), `tasks` (share correct),
        `recognizer` (its hash and its own scores), `settings`, `n`, `versions`, `run`.

    Raises:
        UsageError: settings out of range, objects unknown, or `out` holds something else.
        CheckpointError: the bundled recogniser is missing or damaged.
    """
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; 0 or more")
    height, width = (size, size) if size else pipe.size
    require_square(height, width)
    recognizer, sha256 = Recognizer.from_pretrained()
    recognizer.to(pipe.device)
    chosen = pipe.settings(**(sampling or {}))
    objects = objects or known_objects(pipe)
    settings = {
        "weights": pipe.sha256,
        "recognizer_sha256": sha256,
        "split": Split.HELD_OUT.value,
        "objects": list(objects),
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
    prompts = draw_prompts(objects, num_per_task=num_per_task, seed=seed)
    plan = Plan(
        prompts=[row["prompt"] for row in prompts],
        verdicts=[None] * len(prompts),
        seed=seed,
        height=height,
        width=width,
        settings=chosen,
        batch_size=batch_size,
    )
    files = generate_images(pipe, plan, out / IMAGES, force=force)
    rows = judge(recognizer, files, prompts)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomic(out / ROWS, lines.encode())
    write_failures(out / FAILURES, [row for row in rows if not row["correct"]], out / IMAGES)
    tasks = {
        task.value: float(np.mean([row["correct"] for row in rows if row["tag"] == task.value]))
        for task in BENCHMARK
    }
    results = {
        "task": "scenes",
        "overall": float(np.mean(list(tasks.values()))),
        "tasks": tasks,
        "recognizer": {"sha256": sha256, **recognizer.config.ceiling},
        "settings": settings,
        "n": len(rows),
        "versions": versions(PACKAGES),
        "run": this_run(start, pipe.device),
    }
    write_results(out, results)
    return results


def require_square(height: int, width: int) -> None:
    """Refuse pictures of another shape than scenes have."""
    if height != width:
        raise UsageError(f"scenes are square, not {width} x {height}; give a size, 256 for example")


def judge(
    recognizer: Recognizer, files: Sequence[Path], prompts: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row for each picture: GenEval's verdict on what the recogniser sees in it."""
    rows = []
    pairs = zip(files, prompts, strict=True)
    for file, metadata in tqdm(pairs, total=len(files), unit="img", desc="judge", disable=None):
        (found,) = recognizer.detect([open_image(file)])
        verdict = evaluate_detections(metadata, found, recognizer.config.options)
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


class DuringTraining:
    """The benchmark on a few pictures: what `evaluations=[scenes]` has `dcar-train` call."""

    def require_applicable(self, pipe: TextToImage) -> None:
        """Refuse a generator that knows nothing of scenes.

        Raises:
            UsageError: it is not square, or knows none of their objects.
            CheckpointError: the bundled recogniser is missing or damaged.
        """
        require_square(*pipe.size)
        known_objects(pipe)
        Recognizer.from_pretrained()

    def __call__(self, pipe: TextToImage, *, seed: int, out: Path) -> dict[str, float]:
        """Draw and judge; the mean of the tasks, and each of them."""
        results = evaluate_scenes(pipe, out, num_per_task=TRAINING_PER_TASK, seed=seed)
        return {"overall": results["overall"], **results["tasks"]}


during_training = DuringTraining()

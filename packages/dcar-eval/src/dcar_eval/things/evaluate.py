"""The benchmark of things: "a photo of a fox", for every name that a checkpoint knows.

A thing counts as drawn where the image shows it as often as asked: in more than
half of its images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcar.pipeline import TextToImage
from dcar.pipeline.settings import Settings
from dcar_eval.hard.fixed import Benchmark, evaluate_fixed
from dcar_eval.hard.judge import metadata
from dcar_eval.runs.results import alone as one_process
from dcar_eval.runs.results import text_table
from dcar_eval.scenes.captions import plural
from dcar_eval.scenes.things import same_things
from dcar_eval.things.recognizing import BUNDLED, NAMES, alone
from dcht.errors import UsageError


def known_things(pipe: TextToImage) -> tuple[str, ...]:
    """The things whose names a checkpoint knows, in the singular and in the plural, and lists.

    Raises:
        UsageError: it knows none of them.
    """
    if pipe.text.known_words() is None:
        return NAMES
    joint = pipe.model.config.text.joint
    first = same_things()
    listed = {first[name] for name in joint.names if name in first} if joint else set()
    found = tuple(
        name
        for name in NAMES
        if (not listed or name in listed) and not pipe.text.unknown_words(f"{name} {plural(name)}")
    )
    if not found:
        raise UsageError(f"this checkpoint knows none of the {len(NAMES)} things")
    return found


@one_process
def evaluate_things(
    pipe: TextToImage,
    out: Path,
    *,
    num_per_task: int = 1,
    seed: int = 0,
    size: int | None = None,
    batch_size: int = 8,
    force: bool = False,
    sampling: Settings | None = None,
) -> dict[str, Any]:
    """Draw each thing that the checkpoint knows, judge and report.

    Args:
        pipe: the model.
        out: folder to write.
        num_per_task: images of each thing.
        seed: of the noise; not negative.
        size: side in pixels; None: the checkpoint's, which must be square.
        batch_size: images sampled together.
        force: replace what `out` holds.
        sampling: settings in place of the checkpoint's.

    Returns:
        The content of `results.json`: `overall` (share of the images that are right), `things`
        (that of each), `drawn` (how many things are, in more than half of their images), `known`
        (how many were asked for), `gated`, `fidelity` (estimated), `recognizer` (its own score of
        the same things), `settings`, `n`, `versions`, `run`.

    Raises:
        UsageError: settings out of range, nothing known, or `out` holds something else.
        CheckpointError: the bundled recognizer is missing or damaged.
    """
    return evaluate_fixed(
        things_benchmark(known_things(pipe), num_per_task),
        pipe,
        out,
        seed=seed,
        size=size,
        batch_size=batch_size,
        force=force,
        sampling=sampling,
    )


def things_benchmark(names: Sequence[str], num_per_task: int) -> Benchmark:
    """Each of the names alone, so many times."""
    asked = [metadata(alone(name)) | {"thing": name} for name in names for _ in range(num_per_task)]
    return Benchmark(
        settings={"benchmark": "things", "things": list(names), "num_per_task": num_per_task},
        asked=asked,
        recognizer=BUNDLED,
        scores=_scores,
    )


def _scores(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    right: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        right[row["metadata"]["thing"]].append(row["correct"])
    things = {name: float(np.mean(verdicts)) for name, verdicts in right.items()}
    return {
        "overall": float(np.mean([row["correct"] for row in rows])),
        "gated": float(np.mean([row["gated"] for row in rows])),
        "things": things,
        "drawn": sum(share > 0.5 for share in things.values()),
        "known": len(things),
    }


def table(results: dict[str, Any]) -> str:
    """What people read: the score beside the recognizer's of the same things, and what fails."""
    things, own = results["things"], results["recognizer"]
    same = float(np.mean([own["things"][name] for name in things]))
    lines = [
        ["", "share", "recognizer alone"],
        ["things alone, right", f"{results['overall']:.3f}", f"{same:.3f}"],
        ["right and recognizable", f"{results['gated']:.3f}", ""],
    ]
    text = f"{text_table(lines)}\ndrawn: {results['drawn']} of {results['known']} known things"
    failed = [name for name, share in things.items() if share <= 0.5]
    return text + (f"\nnot drawn: {', '.join(failed)}" if failed else "")

"""The benchmark's prompts, fixed before anything is trained on the harder grammar.

`prompts.json` lists every combination that is held out, and for each task `PER_TASK` prompts that
show exactly one of them and as many that show none. Kinds take turns, and of a kind the combination
that was asked for least is next, so that none is asked for much more often than another. `make`
made them; a test makes them again.

    python -m dcar_eval.hard.prompts > prompts.json
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from dcar_eval.hard.grammar import BENCHMARK, HardScene, HardTask
from dcar_eval.hard.held_out import (
    OBJECTS,
    by_kind,
    combinations_of,
    held_out,
)
from dcar_eval.hard.judge import metadata
from dcar_eval.hard.sample import sample_any
from dcar_eval.scenes.held_out import Combination
from dcht.errors import CheckpointError

SHA256 = "623d50d43c558d0675652dc9178e4ced0c6841ed1867c6ccf033e381d7c75569"
SEED = 16
PER_TASK = 40
"""Prompts of a task in either column."""
TRIES = 1000
KINDS = {
    HardTask.ONE: ("colour", "size"),
    HardTask.SEVERAL: ("count",),
    HardTask.GROUPS: ("count", "pair"),
    HardTask.COLORED_GROUPS: ("colour", "count", "pair"),
    HardTask.FOUR_COLORS: ("colour", "pair"),
    HardTask.SIZES: ("size", "pair"),
    HardTask.RELATIONS: ("relation",),
}
"""What a task's unseen prompts hold out, in turn."""


def make() -> dict[str, Any]:
    """The content of `prompts.json`."""
    rows: list[dict[str, Any]] = []
    times: Counter[Combination] = Counter()
    for number, task in enumerate(BENCHMARK):
        for column, seen in enumerate((False, True)):
            asked: set[str] = set()
            while len(asked) < PER_TASK:
                rng = np.random.default_rng([SEED, number, column, len(asked)])
                kind = KINDS[task][len(asked) % len(KINDS[task])]
                wanted, scene = _next(None if seen else kind, task, rng, times, asked)
                row = metadata(scene)
                asked.add(row["prompt"])
                times.update(wanted)
                rows.append(row | {"seen": seen, "shows": [list(c) for c in wanted]})
    return {
        "objects": list(OBJECTS),
        "held_out": {kind: [list(c) for c in found] for kind, found in by_kind().items()},
        "prompts": rows,
    }


def _next(
    kind: str | None,
    task: HardTask,
    rng: np.random.Generator,
    times: Counter[Combination],
    asked: set[str],
) -> tuple[set[Combination], HardScene]:
    """A scene that shows the combination of a kind that was shown least, or (None) none."""
    # Of two groups neither has six.
    found = [c for c in by_kind()[kind] if c[0] != "6" or task is HardTask.SEVERAL] if kind else []
    turns = [{found[k]} for k in rng.permutation(len(found))]
    turns.sort(key=lambda wanted: sum(times[c] for c in wanted))
    for wanted in turns or [set[Combination]()]:
        scene = _showing(wanted, task, rng, asked)
        if scene is not None:
            return wanted, scene
    raise AssertionError(f"no {task.value} prompt is left that shows a {kind}")


def _showing(
    wanted: set[Combination], task: HardTask, rng: np.random.Generator, asked: set[str]
) -> HardScene | None:
    """A scene that shows these held-out combinations and no others, and was not asked for yet.

    None: there is none. One of a boat and a clock is large, and both may be held out.
    """
    must = {word for combination in wanted for word in combination if word in OBJECTS}
    for _ in range(TRIES):
        others = [name for name in OBJECTS if name not in must]
        room = [*must, *map(str, rng.choice(others, 4 - len(must), replace=False))]
        scene = sample_any(task, tuple(sorted(room)), rng)
        plain = len(scene.groups) == 1 and set(combinations_of(scene)) == set()
        shown = held_out().intersection(combinations_of(scene))
        if shown == wanted and not plain and metadata(scene)["prompt"] not in asked:
            return scene
    return None


@cache
def load() -> dict[str, Any]:
    """The committed prompts.

    Raises:
        CheckpointError: they are not the ones that belong to this release.
    """
    content = resources.files("dcar_eval").joinpath("hard", "prompts.json").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise CheckpointError(f"hard/prompts.json has SHA-256 {found}, not {SHA256}")
    return json.loads(content)


def prompts(num_per_task: int) -> list[dict[str, Any]]:
    """Rows of GenEval's prompt file: of each task so many unseen ones, then so many seen ones.

    After the `PER_TASK`th they begin again: more images of the same prompts.
    """
    rows = []
    for task in BENCHMARK:
        for seen in (False, True):
            column = [
                row for row in load()["prompts"] if (row["tag"], row["seen"]) == (task.value, seen)
            ]
            rows += [column[k % len(column)] for k in range(num_per_task)]
    return rows


def text(content: dict[str, Any]) -> str:
    """As JSON, a line a prompt."""
    prompts = content["prompts"]
    head = json.dumps({k: v for k, v in content.items() if k != "prompts"}, indent=1)
    lines = ",\n".join(f"  {json.dumps(row)}" for row in prompts)
    return f'{head[:-2]},\n "prompts": [\n{lines}\n ]\n}}\n'


if __name__ == "__main__":
    print(text(make()), end="")

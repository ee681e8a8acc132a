"""Results in tables, each protocol in columns of its own, beside the paper's where they compare.

A table is headed by what was measured. The paper's rows stand in it where that is what the paper
measured: 50,000 images (ImageNet's validation set), all of MJHQ-30K, a whole GenEval by its own
detector, an A100. Only what a `results.json` says is shown; `dcar_eval.report.pages` writes pages.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcar_eval.report.paper import TABLE1, TABLE2, TABLE3, PublishedTable
from dcar_eval.runs.results import CONTENT, RESULTS, shown
from dcht.errors import UsageError
from dcht.files import read_json

PUBLISHED, SMOKE = "published", "[smoke]"
IMAGENET_IMAGES, MJHQ_IMAGES = 50_000, 30_000
"""What the paper's numbers are of."""
PICTURES = ("sheet.png", "failures.png", "sweep.svg")
"""What an evaluation leaves beside its results to be looked at."""


class Column(NamedTuple):
    """A column of a section: under which protocol (or `PUBLISHED`) it was measured, and what."""

    protocol: str
    metric: str


class Row(NamedTuple):
    """A model's cells; those of other columns are empty."""

    name: str
    cells: dict[Column, str]


class Section(NamedTuple):
    """A table of the report."""

    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str]


class Measured(NamedTuple):
    """A row of ours before it has its place."""

    section: str
    name: str
    protocol: str
    sha256: str
    values: dict[str, str]


class Run(NamedTuple):
    """An evaluation that came to its end."""

    folder: Path
    results: dict[str, Any]
    depth: int = 1
    """How many parts of the folder's path tell it from the others."""

    @property
    def name(self) -> str:
        """Folder and weights; images that were given have none."""
        weights, place = _weights(self.results), "/".join(self.parts[-self.depth :])
        return f"{place} ({weights[:8]})" if weights else place

    @property
    def parts(self) -> tuple[str, ...]:
        """Of the folder's path, as it was given; of `.` and `..`, which are no names, in full."""
        named = self.folder.name not in ("", "..")
        return (self.folder if named else self.folder.resolve()).parts

    @property
    def is_smoke(self) -> bool:
        """Whether small random networks judged: there is nothing to report."""
        return SMOKE in str(self.results.get("protocol", {}).get("name"))

    def provenance(self) -> dict[str, str]:
        """Where its numbers come from."""
        results, run = self.results, self.results["run"]
        settings = results["settings"]
        protocol, sha256 = _protocol(results)
        return {
            "run": str(self.folder),
            "task": results["task"],
            "images": str(results.get("n", "-")),
            "protocol": f"{protocol} {sha256[:8]}",
            "weights": _weights(results) or "-",
            "seed": str(settings.get("seed", "-")),
            "versions": ", ".join(f"{k} {v}" for k, v in results["versions"].items()),
            "finished": run["finished"],
            "seconds": str(run["seconds"]),
            "machine": f"{run['machine']}, {run['device']}, threads: {run['threads']}",
        }


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """The evaluations at or below these paths, in order; a sweep's points belong to the sweep.

    Those of random judges (`--smoke`) are left out: their numbers mean nothing.

    Args:
        paths: `results.json` files, or folders.

    Raises:
        UsageError: a path without results, nothing but smoke runs, or a file that no evaluation
            wrote.
    """
    files: list[Path] = []
    for path in paths:
        found = [path] if path.is_file() else sorted(path.rglob(RESULTS))
        if not found:
            raise UsageError(f"{path} holds no {RESULTS}; name folders that dcar-eval wrote")
        folders = {file.parent for file in found}
        files += [file for file in found if not folders & set(file.parent.parents)]
    runs = _told_apart([Run(file.parent, _read(file)) for file in dict.fromkeys(files)])
    if not (told := [run for run in runs if not run.is_smoke]):
        raise UsageError(f"{paths[0]} holds smoke runs alone: random networks judged there")
    return told


def _read(file: Path) -> dict[str, Any]:
    results = read_json(file)
    task = results.get("task")
    if not isinstance(task, str) or task not in READERS:
        raise UsageError(f"{file} is of task {task!r}; a report takes {', '.join(READERS)}")
    # All that a page shows of it, before any page is begun.
    run = Run(file.parent, results)
    shown(run.folder, lambda _: (READERS[task](run), _notes(results), run.provenance()), results)
    return results


def build_sections(runs: Sequence[Run]) -> list[Section]:
    """The report's tables: every published row, and ours in columns by protocol.

    Raises:
        UsageError: two runs name a protocol alike that is not the same: their numbers would stand
            in one column.
    """
    measured = [(run, row) for run in runs for row in READERS[run.results["task"]](run)]
    sections = []
    for title in dict.fromkeys(row.section for _, row in measured):
        ours = [(run, row) for run, row in measured if row.section == title]
        hashes: dict[str, tuple[str, Run]] = {}
        for run, row in ours:
            sha256, first = hashes.setdefault(row.protocol, (row.sha256, run))
            if sha256 != row.sha256:
                raise UsageError(
                    f"{first.folder} and {run.folder} both say protocol {row.protocol!r}, but of "
                    f"hashes {sha256[:8]} and {row.sha256[:8]}: unlike numbers do not share a "
                    "column; report them apart"
                )
        sections.append(_section(title, [row for _, row in ours], _merged([r for r, _ in ours])))
    return sections


def _merged(runs: Sequence[Run]) -> list[str]:
    """The notes of some runs, each once, after the names of those that it is of."""
    names: dict[str, dict[str, None]] = {}
    for run in runs:
        for note in _notes(run.results):
            names.setdefault(note, {})[run.name] = None
    return [f"{', '.join(of)}: {note}" for note, of in names.items()]


def _notes(results: dict[str, Any]) -> list[str]:
    """What a reader of an evaluation's numbers must know."""
    found = [f"not comparable: {reason}" for reason in results.get("not_comparable", [])]
    left_out = results.get("left_out", {})
    return found + [f"{metric} is left out: {reason}" for metric, reason in left_out.items()]


def _told_apart(runs: list[Run]) -> list[Run]:
    """Runs in folders of one name, by so much of their paths that each has a row of its own."""
    while True:
        counts = Counter(run.name for run in runs)
        same = [k for k, run in enumerate(runs) if counts[run.name] > 1]
        deeper = [k for k in same if runs[k].depth < len(runs[k].parts)]
        if not deeper:
            return runs
        for k in deeper:
            runs[k] = runs[k]._replace(depth=runs[k].depth + 1)


def _section(title: str, ours: Sequence[Measured], notes: list[str]) -> Section:
    published = BY_TITLE.get(title)
    columns, rows = [], []
    if published is not None:
        columns = [Column(PUBLISHED, metric) for metric in published.columns]
        rows = [
            Row(method, dict(zip(columns, cells, strict=True)))
            for method, cells in published.rows.items()
        ]
        notes = [f"{PUBLISHED}: as the paper prints it, not run here", published.note, *notes]
    cells = [
        (row.name, Column(row.protocol, key), row.values[key]) for row in ours for key in row.values
    ]
    columns += dict.fromkeys(column for _, column, _ in cells)
    for name in dict.fromkeys(name for name, _, _ in cells):
        rows.append(Row(name, {column: value for row, column, value in cells if row == name}))
    return Section(title, columns, rows, [note for note in notes if note])


BY_TITLE: dict[str, PublishedTable] = {
    table.title: table for table in (*TABLE1.values(), TABLE2, TABLE3)
}


def _reconstruction(run: Run) -> list[Measured]:
    width, height = run.results["settings"]["size"]
    count = run.results["n"]
    title = f"Reconstruction of {count:,} images, {width} x {height}{_which(run.results)}"
    if count == IMAGENET_IMAGES and width == height and width in TABLE1:
        title = TABLE1[width].title
    rows = []
    for path, metrics in run.results["paths"].items():
        values = {metric: _cell(cell, 4) for metric, cell in metrics.items()}
        rows.append(Measured(title, f"{run.name}, {path}", *_protocol(run.results), values))
    return rows


def _which(results: dict[str, Any]) -> str:
    """Which images, by their hash: only numbers of the same stand in one table."""
    content = results["settings"].get(CONTENT)
    return "" if content is None else f" (SHA-256 {content[:8]})"


def _geneval(run: Run) -> list[Measured]:
    results = run.results
    values = {task: _cell(score, 3) for task, score in results["tasks"].items()}
    values |= {"overall": _cell(results["overall"], 3), "images": str(results["n"])}
    whole = results["overall"] is not None and not results.get("not_comparable")
    title = TABLE3.title if whole else "GenEval, without the paper's rows: they do not compare"
    return [Measured(title, run.name, *_protocol(results), values)]


def _mjhq(run: Run) -> list[Measured]:
    values = {metric: _cell(cell, 2) for metric, cell in run.results["metrics"].items()}
    count = run.results["n"]
    title = TABLE2.title if count == MJHQ_IMAGES else f"{count:,} prompts of MJHQ-30K"
    return [Measured(title, run.name, *_protocol(run.results), values)]


def _questions(run: Run) -> list[Measured]:
    results = run.results
    values = {}
    for name, found in results["scores"].items():
        groups = found if isinstance(found, dict) else {"": found}
        for group, (value, *_) in groups.items():
            values[f"{name} {group}".strip()] = f"{100 * value:.2f}"
    values["images"] = str(results["n"])
    return [Measured(QUESTIONS[results["task"]], run.name, *_protocol(results), values)]


def _profile(run: Run) -> list[Measured]:
    values = {"parameters": f"{sum(run.results['parameters'].values()) / 1e6:.1f}M"}
    values["GFLOP"] = f"{sum(run.results['flops'].values()) / 1e9:.1f}"
    for row in run.results["run"]["measurements"]:
        if row["batch_size"] == 1:
            values[f"latency {row['precision']} (s)"] = f"{row['seconds']:.3f}"
        else:
            values[f"images/s {row['precision']}"] = f"{row['images_per_second']:.2f}"
    name = run.name if _weights(run.results) else f"{run.name} (random weights)"
    protocol, sha256 = _protocol(run.results)
    title = TABLE2.title if protocol.startswith("paper") and "A100" in protocol else "Efficiency"
    return [Measured(title, name, protocol, sha256, values)]


def _scenes(run: Run) -> list[Measured]:
    results, protocol = run.results, _protocol(run.results)
    benchmark = results.get("benchmark")
    if benchmark == "things":
        return _things(run)
    which = "Scenes benchmark" if benchmark is None else f"Scenes benchmark, {benchmark}"
    title = f"{which} (offline; compares with itself alone)"
    # The harder benchmark has two columns of prompts: rows here, as the recognizer's score is one.
    scored = [(run.name, results)]
    if benchmark == "hard":
        scored = [(f"{run.name}, {name}", results[name]) for name in ("unseen", "seen")]
    rows = []
    for name, scores in (*scored, ("the recognizer on true scenes", results["recognizer"])):
        values = {task: _cell(scores["tasks"][task], 3) for task in results["tasks"]}
        values |= {"overall": _cell(scores["overall"], 3)}
        if scores is not results["recognizer"]:
            values["images"] = str(scores["n"])
        rows.append(Measured(title, name, *protocol, values))
    return rows


def _things(run: Run) -> list[Measured]:
    """A checkpoint's own things, and the recognizer's score of the same."""
    results, protocol = run.results, _protocol(run.results)
    title = "Things, each alone (offline; compares with itself alone)"
    own = [results["recognizer"]["things"][name] for name in results["things"]]
    values = {
        "overall": _cell(results["overall"], 3),
        "drawn": f"{results['drawn']} of {results['known']}",
        "images": str(results["n"]),
    }
    same = {"overall": _cell(sum(own) / len(own), 3)}
    return [
        Measured(title, run.name, *protocol, values),
        Measured(title, "the recognizer on true images of them", *protocol, same),
    ]


def _sweep(run: Run) -> list[Measured]:
    results = run.results
    rows = []
    for point, speed in zip(results["points"], results["run"]["speed"], strict=True):
        settings = ", ".join(f"{key} {value}" for key, value in point["settings"].items())
        values = {
            "overall": f"{point['overall']:.3f} ± {point['stderr']:.3f}",
            "images": str(point["n"]),
            "latency (s)": f"{speed['latency']:.3f}",
            "images/s": f"{speed['images_per_second']:.2f}",
        }
        title = f"Sweep {results['sweep'] or run.parts[-1]}: {run.name}"
        rows.append(Measured(title, settings, *_protocol(results), values))
    return rows


QUESTIONS = {"geneval2": "GenEval 2: Soft-TIFA, %", "dpg": "DPG-Bench, %"}
READERS: dict[str, Callable[[Run], list[Measured]]] = {
    "reconstruction": _reconstruction,
    "mjhq": _mjhq,
    "profile": _profile,
    "geneval": _geneval,
    "geneval2": _questions,
    "dpg": _questions,
    "scenes": _scenes,
    "sweep": _sweep,
}
"""What a task's results are worth in the report."""


def _cell(score: Any, digits: int) -> str:
    """A value, which may stand in a dict with its n or its interval."""
    value = score["value"] if isinstance(score, dict) else score
    return "-" if value is None else f"{value:.{digits}f}"


def _protocol(results: dict[str, Any]) -> tuple[str, str]:
    """Name and hash; those of the scenes are made of the settings that all models share."""
    if "protocol" in results:
        return results["protocol"]["name"], results["protocol"]["sha256"]
    settings = results["settings"]
    size = settings.get("size")
    side = "images as given" if size is None else f"{size} x {size}"
    match settings.get("benchmark"):
        case "hard":
            name, asked = f"hard scenes, {side}", ["prompts_sha256"]
        case "things":
            name, asked = f"{len(settings['things'])} things, {side}", ["things"]
        case _:
            name = f"scenes, {len(settings['objects'])} objects, {side}"
            asked = ["split", "objects"]
    keys = ["recognizer_sha256", *asked, *([] if size is None else ["size"])]
    lines = {key: settings[key] for key in keys}
    return name, hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest()


def _weights(results: dict[str, Any]) -> str | None:
    """Hash of what was evaluated; None for random weights, or images of unknown origin."""
    settings = results["settings"]
    if "images_sha256" in settings:  # its tokenizer is the judge's ceiling, and made none of them
        return None
    return settings.get("weights") or settings.get("tokenizer_sha256")

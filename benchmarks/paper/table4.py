"""Table 4: generators with the residual and without, by the scenes score and by distances.

python benchmarks/paper/table4.py RESULTS STEPS     the steps of a run without the head that cost
                                                as much as STEPS with it, by a profile's FLOPs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, markdown

VARIANTS = {"hybrid": "hybrid", "discrete": "discrete only"}
POINTS = {"hybrid": True, "discrete": False}
"""Whether a point of the sweep has the residual."""
HOW = {"drawn": "the weights below, drawn", "trained": "trained from scratch at equal FLOPs"}
EXTRACTOR = "efficientnet-lite0"
SHOWN = {
    "overall": ("scenes, overall", 3),
    "frechet": (f"Fréchet distance ({EXTRACTOR})", 1),
    "kid": (f"KID ({EXTRACTOR})", 3),
    "images_per_second": ("images/s", 2),
    "cross_entropy": ("cross-entropy", 3),
    "steps": ("steps", 0),
}


def gather(work: Path) -> dict[str, Any]:
    """A row a variant and seed: of `WORK/drawn/SEED`, then of `WORK/trained/VARIANT-SEED`."""
    rows: Rows = []
    weights = None
    for folder in sorted((work / "drawn").iterdir()):
        results = json.loads((folder / "results.json").read_text())
        weights = results["settings"]["weights"]
        for point, speed in zip(results["points"], results["run"]["speed"], strict=True):
            variant = next(v for v, on in POINTS.items() if on == point["settings"]["residual"])
            rows.append(
                {
                    **_row("drawn", variant, int(folder.name), point),
                    **_distances(folder / f"distances-{variant}.json"),
                    "images_per_second": round(speed["images_per_second"], 3),
                }
            )
    for folder in sorted((work / "trained").iterdir()):
        variant, _, seed = folder.name.rpartition("-")
        scores = json.loads((folder / "scores" / "results.json").read_text())
        log = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        last = [row for line in log if "cross_entropy" in (row := json.loads(line))][-1]
        rows.append(
            {
                **_row("trained", variant, int(seed), scores),
                **_distances(folder / "distances.json"),
                "cross_entropy": round(last["cross_entropy"], 4),
                "steps": last["step"],
            }
        )
    return {"weights": weights, "rows": rows}


def _row(how: str, variant: str, seed: int, scores: dict[str, Any]) -> dict[str, Any]:
    return {
        "how": how,
        "variant": variant,
        "seed": seed,
        "overall": round(scores["overall"], 4),
        "n": scores["n"],
    }


def _distances(path: Path) -> dict[str, float]:
    found = json.loads(path.read_text())
    keys = {"frechet": f"fid[{EXTRACTOR}]", "kid": f"kid[{EXTRACTOR}]"}
    return {name: round(found[key]["value"], 4) for name, key in keys.items()}


def _by_variant(result: dict[str, Any]) -> dict[tuple[str, str], Rows]:
    return {
        (how, name): [row for row in result["rows"] if (row["how"], row["variant"]) == (how, name)]
        for how in HOW
        for name in VARIANTS
    }


def table(result: dict[str, Any]) -> str:
    """Means over seeds, each seed beside them."""

    def cell(rows: Rows, key: str, digits: int) -> str:
        values = [row[key] for row in rows if key in row]
        if not values:
            return "-"
        each = ", ".join(f"{value:.{digits}f}" for value in values)
        return f"{mean(values):.{digits}f} ({each})"

    lines = [
        [HOW[how], VARIANTS[name], *(cell(rows, key, d) for key, (_, d) in SHOWN.items())]
        for (how, name), rows in _by_variant(result).items()
    ]
    return markdown(["", "", *(label for label, _ in SHOWN.values())], lines)


def plot(result: dict[str, Any]) -> Figure:
    """A panel a measure; bars are means over seeds, dots the seeds."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for panel, key in zip(figure.subplots(1, 3), ("overall", "frechet", "kid"), strict=True):
        for (how, name), rows in _by_variant(result).items():
            values = [row[key] for row in rows]
            place = list(HOW).index(how) + (-0.2 if name == "hybrid" else 0.2)
            color = f"C{list(VARIANTS).index(name)}"
            label = VARIANTS[name] if how == "drawn" else None
            panel.bar(place, mean(values), 0.38, color=color, label=label)
            panel.plot([place] * len(values), values, "k.", markersize=5)
        panel.set_xticks(range(len(HOW)), list(HOW))
        panel.set_title(SHOWN[key][0], fontsize=10)
    figure.axes[0].legend(frameon=False)
    figure.suptitle("Hybrid against discrete only (Table 4); dots are seeds", fontsize=11)
    return figure


def equal_steps(results: dict[str, Any], steps: int) -> int:
    """Steps without the head that cost as much as `steps` with it.

    Forward and backward of a part are in proportion, and the small preset's head, like its
    transformer, sees each position once a step.
    """
    flops = results["flops"]
    without = flops["text"] + flops["transformer"]
    return round(steps * (without + flops["head"]) / without)


if __name__ == "__main__":
    print(equal_steps(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])))

"""The harder benchmark of scenes, task by task, beside what its recognizer says of true scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_files import Rows, briefly, markdown
from standard import runs

COLUMNS = ("unseen", "seen")


def gather(work: Path) -> dict[str, Any]:
    """Runs in `WORK/NUMBER[-shrunk]`, and `WORK/ceiling.json`."""
    rows: Rows = []
    for row, results in runs(work):
        rows.append(
            {
                **row,
                "psnr_objects_estimated": round(results["fidelity"]["psnr_objects"], 3),
                **{name: _column(results[name]) for name in COLUMNS},
            }
        )
    ceiling = json.loads((work / "ceiling.json").read_text())
    names = ("overall", "tasks", "refused", "reconstructed", "num_per_task", "seed")
    return {"recognizer": {name: ceiling[name] for name in names}, "rows": rows}


def _column(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "n": found["n"],
        "gated": found["gated"],
        "shares": {"overall": found["overall"], **found["tasks"]},
        "intervals": {
            name: [round(edge, 3) for edge in edges] for name, edges in found["intervals"].items()
        },
    }


def table(result: dict[str, Any]) -> str:
    """A line a task; the first weights with intervals, the others beside them, then true scenes."""
    drawn = [row for row in result["rows"] if not row["shrunk"]]
    shrunk = [row for row in result["rows"] if row["shrunk"]][:1]
    first, others = drawn[0], drawn[1:]
    judge = result["recognizer"]
    truth = {"overall": judge["overall"], **judge["tasks"]}
    blurred = judge["reconstructed"]
    through = {"overall": blurred["overall"], **blurred["tasks"]}
    heading = ["task"]
    for name in COLUMNS:
        heading += [f"{briefly(first['weights'])}, {name}", "95 %"]
    heading += [f"{briefly(row['weights'])}, {name}" for row in others for name in COLUMNS]
    heading += ["the first as 16 x 16 px"] * len(shrunk)
    heading += ["true scenes", f"through {briefly(blurred['tokenizer_sha256'])}'s tokenizer"]
    lines = []
    for task in truth:
        line = [f"`{task}`" if task != "overall" else task]
        for name in COLUMNS:
            column = first[name]
            low, high = column["intervals"][task]
            line += [f"{column['shares'][task]:.3f}", f"{low:.2f} to {high:.2f}"]
        line += [f"{row[name]['shares'][task]:.3f}" for row in others for name in COLUMNS]
        line += [f"{row['unseen']['shares'][task]:.3f}" for row in shrunk]
        lines.append([*line, f"{truth[task]:.3f}", f"{through[task]:.3f}"])
    gated = ["gated, estimated"]
    for name in COLUMNS:
        gated += [f"{first[name]['gated']:.3f}", "-"]
    gated += [f"{row[name]['gated']:.3f}" for row in others for name in COLUMNS]
    gated += [f"{row['unseen']['gated']:.3f}" for row in shrunk]
    return markdown(heading, [*lines, [*gated, "-", "-"]])


def plot(result: dict[str, Any]) -> Figure:
    """Unseen prompts, task by task, with their intervals."""
    drawn = [row for row in result["rows"] if not row["shrunk"]]
    figure = Figure(figsize=(8, 4), layout="constrained")
    panel = figure.subplots()
    tasks = list(drawn[0]["unseen"]["shares"])
    for number, row in enumerate(drawn):
        column = row["unseen"]
        shares = [column["shares"][task] for task in tasks]
        edges = [column["intervals"][task] for task in tasks]
        below = [share - low for share, (low, _) in zip(shares, edges, strict=True)]
        above = [high - share for share, (_, high) in zip(shares, edges, strict=True)]
        places = [place + 0.15 * number for place in range(len(tasks))]
        name = briefly(row["weights"]).replace("`", "")
        panel.errorbar(places, shares, yerr=[below, above], fmt="o", capsize=3, label=name)
    through = result["recognizer"]["reconstructed"]
    ceiling = [through["overall"], *through["tasks"].values()]
    panel.plot(range(len(tasks)), ceiling, "_", color="gray", label="true scenes, reconstructed")
    panel.set_xticks(range(len(tasks)), [task.replace("_", "\n") for task in tasks])
    panel.set(ylabel="right, unseen prompts", ylim=(-0.03, 1.05))
    panel.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure

"""The paper's comparisons in miniature: gather the runs of one, draw the plots of all.

    python docs/results/miniature.py gather table5 RUNS   reads RUNS/NAME-SEED/metrics.jsonl,
                                                          writes docs/results/table5.json
    python docs/results/miniature.py draw                 plots and tables of every committed file

The runs themselves are made by the script of the same name, `docs/results/table5.sh` and so on.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
TABLE5 = {
    "y": "PSNR in dB, validation scenes at 128 px",
    "values": {"val_psnr_hybrid": "hybrid", "val_psnr_discrete": "discrete"},
    "names": {
        "three_stages": "three stages",
        "no_warmup": "no warm-up",
        "alternate_all_trainable": "alternate, all trainable",
    },
}
COMPARISONS: dict[str, dict[str, Any]] = {
    "table5": TABLE5
    | {"title": "Three strategies of training the tokenizer at equal budget (Table 5)"},
    "table5_unhelped": TABLE5
    | {"title": "The same strategies without k-means start and revival of dead codes"},
    "table6": {
        "title": "512 px from the 256 px weights, and from scratch (Table 6, Fig. 10)",
        "y": "training loss",
        "values": {"cross_entropy": "cross-entropy", "diffusion": "diffusion"},
        "names": {"bundled": "from 256 px", "scratch": "from scratch"},
    },
}
"""What is compared: the names of the runs, and which values of their logs."""


def gather(name: str, runs: Path) -> None:
    """Write the curves of all runs of a comparison to one file, with what they were made by."""
    comparison = COMPARISONS[name]
    found = []
    for run in sorted(runs.iterdir()):
        variant, _, seed = run.name.rpartition("-")
        if variant not in comparison["names"]:
            continue
        lines = (run / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        curves = {
            value: [[row["step"], round(row[value], 5)] for row in rows if value in row]
            for value in comparison["values"]
        }
        found.append({"variant": variant, "seed": int(seed), "curves": curves})
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
    ).stdout.strip()
    result = {
        "comparison": name,
        "command": f"docs/results/{name.split('_')[0]}.sh",
        "commit": commit,
    }
    content = json.dumps(result | {"runs": found}, indent=1)
    (HERE / f"{name}.json").write_text(content + "\n")


def draw(name: str) -> None:
    """Draw the curves of a comparison, and print its table of last values."""
    comparison = COMPARISONS[name]
    result = json.loads((HERE / f"{name}.json").read_text())
    figure, panels = plt.subplots(1, len(comparison["values"]), figsize=(11, 4.2), sharex=True)
    last: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in result["runs"]:
        colour = f"C{list(comparison['names']).index(run['variant'])}"
        for panel, value in zip(panels, comparison["values"], strict=True):
            steps, values = zip(*run["curves"][value], strict=True)
            label = comparison["names"][run["variant"]] if run["seed"] == 0 else None
            style = "-" if run["seed"] == 0 else "--"
            panel.plot(steps, values, style, color=colour, label=label, linewidth=1.5)
            last[run["variant"]][value].append(values[-1])
    for panel, label in zip(panels, comparison["values"].values(), strict=True):
        panel.set(title=label, xlabel="step", ylabel=comparison["y"])
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    seeds = {run["seed"] for run in result["runs"]}
    note = "; dashed: a second seed" if len(seeds) > 1 else ""
    figure.suptitle(comparison["title"] + note, fontsize=11)
    figure.tight_layout()
    figure.savefig(HERE / f"{name}.png", dpi=100)
    plt.close(figure)

    print(f"\n{comparison['title']}\n")
    print("| | " + " | ".join(comparison["values"].values()) + " |")
    print("|---" * (1 + len(comparison["values"])) + "|")
    for variant, label in comparison["names"].items():
        if variant not in last:
            continue  # not run
        cells = []
        for value in comparison["values"]:
            ends = last[variant][value]
            each = ", ".join(f"{x:.3f}" for x in ends)
            cells.append(f"{statistics.mean(ends):.3f} ({each})")
        print(f"| {label} | " + " | ".join(cells) + " |")


def draw_orders() -> None:
    """Draw the sweep over orders, steps and solvers; a line is the mean over what it leaves out."""
    rows = list(csv.DictReader((HERE / "orders" / "sweep.csv").open()))
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for panel, axis in zip(panels, ("order", "solver"), strict=True):
        for name in dict.fromkeys(row[axis] for row in rows):
            scores: dict[int, list[float]] = defaultdict(list)
            for row in rows:
                if row[axis] == name:
                    scores[int(row["num_steps"])].append(float(row["overall"]))
            panel.plot(
                list(scores),
                [statistics.mean(values) for values in scores.values()],
                "o-",
                label=name,
            )
        panel.set(xlabel="unmasking steps", title=f"by {axis}")
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    panels[0].set(ylabel="scenes, overall (held-out prompts)", ylim=(0, 0.6))
    figure.suptitle("48 pictures a point; the standard error of a point is 0.06", fontsize=11)
    figure.tight_layout()
    figure.savefig(HERE / "orders.png", dpi=100)
    plt.close(figure)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("gather", help="runs to docs/results/NAME.json")
    verb.add_argument("name", choices=sorted(COMPARISONS))
    verb.add_argument("runs", type=Path)
    verbs.add_parser("draw", help="plots and tables of every committed file")
    arguments = parser.parse_args()
    if arguments.verb == "gather":
        gather(arguments.name, arguments.runs)
    for name in COMPARISONS:
        if (HERE / f"{name}.json").exists():
            draw(name)
    draw_orders()


if __name__ == "__main__":
    main()

"""Table 5 without k-means and revival: three strategies of training the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

from curves import COMPARISONS
from matplotlib.figure import Figure
from result_files import Rows, markdown

NAMES: dict[str, str] = COMPARISONS["table5"]["names"]
EXTRACTOR = "efficientnet-lite0"
METRICS = {
    "psnr": ("PSNR", "psnr", 2),
    "lpips": ("LPIPS (AlexNet)", "lpips_alex", 3),
    "rfid": (f"Fréchet distance ({EXTRACTOR})", f"rfid[{EXTRACTOR}]", 1),
}
"""What is shown: its label, its name in a reconstruction's results, its digits."""
PATHS = ("hybrid", "discrete")


def gather(work: Path) -> dict[str, Any]:
    """A row a `WORK/runs/STRATEGY-SEED`."""
    rows: Rows = []
    for folder in sorted((work / "runs").glob("*-[0-9]*")):
        strategy, _, seed = folder.name.rpartition("-")
        results = json.loads((folder / "scores" / "results.json").read_text())
        log = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        used = [row for line in log if "codebook_used" in (row := json.loads(line))][-1]
        rows.append(
            {
                "strategy": strategy,
                "seed": int(seed),
                "codes_used": round(used["codebook_used"], 4),
                "perplexity": round(used["perplexity"], 1),
                **{
                    f"{name}_{path}": round(results["paths"][path][key]["value"], 4)
                    for name, (_, key, _) in METRICS.items()
                    for path in PATHS
                },
            }
        )
    return {"rows": rows}


def table(result: dict[str, Any]) -> str:
    """A line a strategy and path: means over seeds, each seed beside them."""

    def cell(rows: Rows, key: str, digits: int) -> str:
        values = [row[key] for row in rows]
        return f"{mean(values):.{digits}f} ({', '.join(f'{v:.{digits}f}' for v in values)})"

    lines = []
    for strategy, label in NAMES.items():
        rows = [row for row in result["rows"] if row["strategy"] == strategy]
        if not rows:
            continue
        for path in PATHS:
            cells = [cell(rows, f"{name}_{path}", digits) for name, (*_, digits) in METRICS.items()]
            used = [f"{100 * mean(row['codes_used'] for row in rows):.0f} %", ""]
            used[1] = f"{mean(row['perplexity'] for row in rows):.0f}"
            lines.append([label, path, *cells, *(used if path == "discrete" else ["", ""])])
    heading = ["", "path", *(label for label, *_ in METRICS.values()), "codes used", "perplexity"]
    return markdown(heading, lines)


def plot(result: dict[str, Any]) -> Figure:
    """A panel a metric; bars are means over seeds, dots the seeds."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    for panel, (name, (label, *_)) in zip(
        figure.subplots(1, len(METRICS)), METRICS.items(), strict=True
    ):
        for place, strategy in enumerate(NAMES):
            rows = [row for row in result["rows"] if row["strategy"] == strategy]
            for number, path in enumerate(PATHS if rows else ()):
                values = [row[f"{name}_{path}"] for row in rows]
                x = place + 0.4 * (number - 0.5)
                panel.bar(x, mean(values), 0.36, color=f"C{number}")
                panel.plot([x] * len(values), values, "k.", markersize=5)
        panel.set_xticks(range(len(NAMES)), [text.replace(", ", ",\n") for text in NAMES.values()])
        panel.tick_params(axis="x", labelsize=8)
        panel.set_title(label, fontsize=10)
    figure.suptitle(f"blue: {PATHS[0]}, orange: {PATHS[1]}; dots are seeds", fontsize=10)
    return figure

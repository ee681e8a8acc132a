"""Fast settings of the bundled checkpoint: likeness to the true scenes against processor time.

    OMP_NUM_THREADS=1 python benchmarks/speed/presets.py --sprites node_modules --work WORK

Each point generates the same held-out prompts with the same noise. A point qualifies if its PSNR to
the true scenes is at most 0.3 dB below that of the checkpoint's own settings: a score of content
cannot see blur, so it does not count here. Times are of one image at a time, the points taking
turns, the fastest of a few rounds, with text and decoder. Writes `results/presets.json` and
`docs/pictures/presets.png`, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from dcar import TextToImage
from dcar_eval.scenes.evaluate import Truths, evaluate_scenes
from dcar_eval.sweep import at_point
from dcar_eval.sweep.axes import single_values

HERE = Path(__file__).parent
RESULT = HERE / "results" / "presets.json"
PLOT = HERE.parents[1] / "docs" / "pictures" / "presets.png"
OWN = "own settings"
TOLERANCE = 0.3
"""In dB."""
FAST_HEAD = "solver=dpmpp head_temperature=1"
POINTS = {
    OWN: "",
    "halton-12": "preset=halton-12",
    "halton-6": "preset=halton-6",
    "head 8": f"{FAST_HEAD} num_diffusion_steps=8",
    "head 4": f"{FAST_HEAD} num_diffusion_steps=4",
    "guidance interval": "guidance=interval",
    "gtr-8": "preset=gtr-8",
    "gtr-6": "preset=gtr-6",
    "halton-12, head 8": f"preset=halton-12 {FAST_HEAD} num_diffusion_steps=8",
    "halton-12, interval": "preset=halton-12 guidance=interval",
    "8 steps, interval": "num_steps=8 guidance=interval",
    "halton-6, interval": "preset=halton-6 guidance=interval",
    "gtr-8, head 8": f"preset=gtr-8 {FAST_HEAD} num_diffusion_steps=8",
    "gtr-6, head 8": f"preset=gtr-6 {FAST_HEAD} num_diffusion_steps=8",
    "gtr-6, head 4": f"preset=gtr-6 {FAST_HEAD} num_diffusion_steps=4",
}
"""By name: what differs from the checkpoint's own settings (`dcar-eval sweep`'s words)."""


def measure(
    pipe: TextToImage, truths: Truths, work: Path, *, num_per_task: int, rounds: int
) -> dict[str, Any]:
    """Likeness and time of each point."""
    pipes = {name: at_point(pipe, single_values(words.split())) for name, words in POINTS.items()}
    scores, images = {}, {}
    for name, point in pipes.items():
        folder = work / name.replace(", ", "-").replace(" ", "-")
        scores[name] = evaluate_scenes(
            point, folder, num_per_task=num_per_task, seed=4242, noise_seed=5, truths=truths
        )
        lines = (folder / "images.jsonl").read_text().splitlines()
        images[name] = [json.loads(line)["fidelity"]["psnr"] for line in lines]
    seconds = dict.fromkeys(pipes, float("inf"))
    for turn in range(rounds + 1):
        for name, point in pipes.items():
            start = time.process_time()
            point("a photo of a red apple", seed=turn)
            if turn:  # the first is not counted
                seconds[name] = min(seconds[name], time.process_time() - start)
    rows = []
    for name, found in scores.items():
        changes = [ours - own for ours, own in zip(images[name], images[OWN], strict=True)]
        change = statistics.mean(changes)
        rows.append(
            {
                "point": name,
                "settings": POINTS[name],
                "seconds": round(seconds[name], 3),
                "psnr": round(found["fidelity"]["psnr"], 3),
                "psnr_objects": round(found["fidelity"]["psnr_objects"], 3),
                "change": round(change, 3),
                "error": round(statistics.stdev(changes) / len(changes) ** 0.5, 3),
                "overall": found["overall"],
                "gated": found["gated"],
                "qualifies": change >= -TOLERANCE,
            }
        )
    return {
        "command": "OMP_NUM_THREADS=1 python benchmarks/speed/presets.py --sprites SPRITES "
        f"--work WORK --num-per-task {num_per_task} --rounds {rounds}",
        "weights": pipe.identity,
        "images": len(images[OWN]),
        "threads": torch.get_num_threads(),
        "rows": rows,
    }


def table(result: dict[str, Any]) -> str:
    """In Markdown."""
    lines = [
        "| settings | PSNR (dB) | against own | gated | s an image | speed | qualifies |",
        "|---|---|---|---|---|---|---|",
    ]
    own = result["rows"][0]["seconds"]
    for row in result["rows"]:
        change = f"{row['change']:+.2f} ± {row['error']:.2f}" if row["point"] != OWN else ""
        lines.append(
            f"| {row['point']} | {row['psnr']:.2f} | {change} | {row['gated']:.3f} | "
            f"{row['seconds']:.2f} | {own / row['seconds']:.2f}x | "
            f"{'yes' if row['qualifies'] else 'no'} |"
        )
    return "\n".join(lines)


def plot(result: dict[str, Any]) -> None:
    """Likeness against time; what qualifies is filled."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    panel = figure.add_subplot()
    own = result["rows"][0]
    panel.axhline(own["psnr"] - TOLERANCE, color="0.6", linestyle="--", linewidth=1)
    panel.text(
        own["seconds"], own["psnr"] - TOLERANCE, "least that qualifies", va="top", ha="right"
    )
    for row in result["rows"]:
        face = "tab:blue" if row["qualifies"] else "none"
        panel.scatter(row["seconds"], row["psnr"], s=40, facecolors=face, edgecolors="tab:blue")
        panel.annotate(
            row["point"], (row["seconds"], row["psnr"]), textcoords="offset points", fontsize=8,
            xytext=(6, -10 if row["point"] == "halton-6" else 4),
        )  # fmt: skip
    panel.set_xlabel("processor seconds an image (256 px, one thread)")
    panel.set_ylabel("PSNR to the true scene (dB)")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    """Parse, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--sprites", type=Path, required=True, help="node_modules with the art")
    parser.add_argument("--work", type=Path, required=True, help="folder for the images")
    parser.add_argument("--num-per-task", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    result = measure(
        TextToImage.from_pretrained(),
        Truths(sprites=arguments.sprites),
        arguments.work,
        num_per_task=arguments.num_per_task,
        rounds=arguments.rounds,
    )
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    plot(result)
    print(table(result))


if __name__ == "__main__":
    main()

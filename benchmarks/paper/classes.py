"""Ten classes of scenes: what the recognizer sees in drawn images, reconstructions and true scenes.

`WORK/{drawn,reconstructed,true}/CLASS/` hold ten images each. What an image shows is the object
that the bundled recognizer, which knows 62, is most certain of, if it is certain enough.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from result_files import Rows, markdown

from dcar_eval.scenes.recognizer import Recognizer
from dcht.images import list_images, open_image

KINDS = {"drawn": "drawn", "reconstructed": "true scenes, reconstructed", "true": "true scenes"}
"""Folders of classes.sh."""
NOTHING = "nothing"


def gather(work: Path) -> dict[str, Any]:
    """A row for each class of each kind: how many images, and what they show."""
    recognizer, sha256 = Recognizer.from_pretrained()
    rows: Rows = []
    for kind in KINDS:
        for folder in sorted(path for path in (work / kind).iterdir() if path.is_dir()):
            images = [open_image(file) for file in list_images(folder)]
            seen = Counter(most_certain(recognizer, image) for image in images)
            rows.append({"kind": kind, "class": folder.name, "n": len(images), "seen": dict(seen)})
    last = json.loads((work / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    training = {key: last[key] for key in ("step", "cross_entropy", "accuracy", "diffusion")}
    return {"recognizer": sha256, "training": training, "rows": rows}


def most_certain(recognizer: Recognizer, image: Any) -> str:
    """The class of the detection with the highest score, or `nothing`."""
    (found,) = recognizer.detect([image])
    certain = [each for each in found if each.score >= recognizer.config.options.threshold]
    return max(certain, key=lambda each: each.score).class_name if certain else NOTHING


def accuracy(rows: Rows) -> tuple[float, float]:
    """The share of images that show their class, and its standard error."""
    right = sum(row["seen"].get(row["class"], 0) for row in rows)
    count = sum(row["n"] for row in rows)
    share = right / count
    return share, (share * (1 - share) / count) ** 0.5


def table(result: dict[str, Any]) -> str:
    """A line a class, and all of them."""
    rows: Rows = result["rows"]
    lines = []
    for name in dict.fromkeys(row["class"] for row in rows):
        own = [row for row in rows if row["class"] == name]
        found = [[row for row in own if row["kind"] == kind] for kind in KINDS]
        lines.append([name, *(f"{accuracy(of_kind)[0]:.2f}" for of_kind in found)])
    whole = [accuracy([row for row in rows if row["kind"] == kind]) for kind in KINDS]
    lines.append(["all", *(f"{share:.2f} ± {error:.2f}" for share, error in whole)])
    return markdown(["class", *KINDS.values()], lines)


def plot(result: dict[str, Any]) -> Figure:
    """What drawn images of each class show."""
    rows = [row for row in result["rows"] if row["kind"] == "drawn"]
    names = [row["class"] for row in rows]
    others = sorted({name for row in rows for name in row["seen"]} - {*names, NOTHING})
    seen = [*names, *others, NOTHING]
    shares = np.array([[row["seen"].get(name, 0) / row["n"] for name in seen] for row in rows])
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    panel = figure.subplots()
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    panel.set_xticks(range(len(seen)), seen, rotation=60, ha="right")
    panel.set_yticks(range(len(names)), names)
    panel.set(xlabel="the recognizer sees", ylabel="asked for")
    share, error = accuracy(rows)
    figure.suptitle(f"Ten classes, drawn: accuracy {share:.2f} ± {error:.2f}")
    return figure

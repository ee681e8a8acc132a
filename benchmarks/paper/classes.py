"""Ten classes of scenes: what the recognizer sees in drawn images, reconstructions and true scenes.

`WORK/{drawn,reconstructed,true}/CLASS/` hold about ten images each. What an image shows is the
object that the bundled recognizer, which knows 62, is most certain of, if it is certain enough. The
recognizer does not see blur, so an image also has to pass the gate: be recognizable by the bundled
estimator. Drawn images shrunk to 16 pixels show that this can fail.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from result_files import Rows, markdown

from dcar_eval.geneval import Detection
from dcar_eval.scenes.estimator import Estimator
from dcar_eval.scenes.judge import estimate
from dcar_eval.scenes.recognizer import Recognizer
from dcht.images import list_images, open_image

SHRUNK = "drawn, shrunk to 16 px"
KINDS = {
    "drawn": "drawn",
    SHRUNK: SHRUNK,
    "reconstructed": "true scenes, reconstructed",
    "true": "true scenes",
}
"""Folders of classes.sh, and what is spoiled of the first."""
NOTHING = "nothing"
CERTAINTY = 1.96
"""Standard deviations of an interval of 95 %."""


def gather(work: Path) -> dict[str, Any]:
    """A row for each class of each kind: how many images, what they show, and how many pass."""
    recognizer, sha256 = Recognizer.from_pretrained()
    estimator, estimator_sha256 = Estimator.from_pretrained()
    rows: Rows = []
    for kind in KINDS:
        source = work / ("drawn" if kind == SHRUNK else kind)
        for folder in sorted(path for path in source.iterdir() if path.is_dir()):
            seen, gated = Counter[str](), 0
            for file in list_images(folder):
                image = open_image(file)
                image = shrunk(image) if kind == SHRUNK else image
                (found,) = recognizer.detect([image])
                shows = most_certain(found, recognizer.config.options.threshold)
                seen[shows] += 1
                beside = estimate(estimator, image, found, recognizer.config.options)
                gated += shows == folder.name and beside.recognizable
            rows.append(
                {"kind": kind, "class": folder.name, "n": seen.total(), "gated": gated}
                | {"seen": dict(seen)}
            )
    last = json.loads((work / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    training = {key: last[key] for key in ("step", "cross_entropy", "accuracy", "diffusion")}
    judges = {"recognizer": sha256, "estimator": estimator_sha256}
    return judges | {"training": training, "rows": rows}


def shrunk(image: Image.Image) -> Image.Image:
    """The image through 16 x 16 pixels: what is shown can be told, and nobody would want it."""
    return image.resize((16, 16), Image.Resampling.BICUBIC).resize(
        image.size, Image.Resampling.BICUBIC
    )


def most_certain(found: Sequence[Detection], threshold: float) -> str:
    """The class of the detection with the highest score, or `nothing`."""
    certain = [each for each in found if each.score >= threshold]
    return max(certain, key=lambda each: each.score).class_name if certain else NOTHING


def right_and_gated(rows: Rows) -> tuple[float, float]:
    """The share of images that show their class, and of those that pass the gate as well."""
    count = sum(row["n"] for row in rows)
    right = sum(row["seen"].get(row["class"], 0) for row in rows)
    return right / count, sum(row["gated"] for row in rows) / count


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval of a share of `count` images: at a share of 1, too, it has a width."""
    z = CERTAINTY**2 / count
    middle = (share + z / 2) / (1 + z)
    half = (z * (share * (1 - share) + z / 4)) ** 0.5 / (1 + z)
    return middle - half, middle + half


def table(result: dict[str, Any]) -> str:
    """A line a class, and all of them."""
    rows: Rows = result["rows"]
    of_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}
    lines = []
    for name in dict.fromkeys(row["class"] for row in rows):
        own = [[row for row in each if row["class"] == name] for each in of_kind.values()]
        lines.append([name, *("{:.2f} ({:.2f})".format(*right_and_gated(each)) for each in own)])
    whole = [right_and_gated(each) for each in of_kind.values()]
    lines.append(["all", *("{:.2f} ({:.2f})".format(*each) for each in whole)])
    counts = [sum(row["n"] for row in each) for each in of_kind.values()]
    bounds = [interval(share, count) for (share, _), count in zip(whole, counts, strict=True)]
    lines.append(["95 % interval of all", *("{:.2f} to {:.2f}".format(*each) for each in bounds)])
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
    right, gated = right_and_gated(rows)
    figure.suptitle(f"Ten classes, drawn: {right:.2f} right, {gated:.2f} recognizable as well")
    return figure

"""How time and memory grow with resolution, batch, steps, text and number of images, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/speed/growth.py \\
        --out benchmarks/speed/results/growth.json --plot docs/pictures/growth.png

The bundled checkpoint draws; what is no size of its own (the text's length) is varied in a network
of preset `small` with random weights. Processor seconds of one thread, the least of --rounds; peak
resident memory above that before the first image. An exponent is the slope of the logarithms
over the upper half of an axis: 1 is linear, 0 constant.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dcar import TextToImage
from dcar.config import PRESETS
from dcar.modules.transformer import Generator
from dcar_eval.profile.measure import PROMPT, generation_parts
from dcar_eval.profile.memory import PeakMemory

CPU = torch.device("cpu")
LIBC = ctypes.CDLL("libc.so.6")
FEW = {"num_steps": 2, "num_diffusion_steps": 2}
"""Where steps are not what is varied: each costs the same."""
TILE = 512

Point = dict[str, float]
"""Seconds by part, and `memory` in MiB."""


class Growth:
    """Measures points of axes, from small to large."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.pipe = TextToImage.from_pretrained()
        self.draw(batch=1, size=64)  # what is made once
        self.before = PeakMemory(CPU).read() or 0

    def draw(self, *, batch: int, size: int, **settings: Any) -> Point:
        """Seconds of the parts of an image or a batch of them."""
        config = replace(self.pipe.sampling, **(FEW | settings))
        parts, last = {}, time.process_time()
        for name, _ in generation_parts(
            self.pipe, [PROMPT] * batch, settings=config, size=(size, size)
        ):
            now = time.process_time()
            parts[name], last = now - last, now
        return parts

    def tiles(self, size: int) -> Point:
        """Seconds of encoding and decoding an image by tiles."""
        tokenizer, images = self.pipe.tokenizer, torch.zeros(1, 3, size, size)
        with torch.inference_mode():
            start = time.process_time()
            z = tokenizer.encode_tiled(images, tile=TILE)
            middle = time.process_time()
            tokenizer.decode_tiled(z, tile=TILE)
        return {"encode, tiles": middle - start, "decode, tiles": time.process_time() - middle}

    def flops(self, sides: list[int]) -> dict[str, float]:
        """Exponents of both by the side, in operations of convolutions and matrix products."""
        tokenizer = copy.deepcopy(self.pipe.tokenizer).to("meta")
        network = copy.deepcopy(self.pipe.model.generator).to("meta")
        config = network.config
        text = torch.zeros(1, config.text_length, config.text_dim, device="meta")
        lines: dict[str, list[float]] = {"encode, tiles": [], "decode, tiles": [], "a step": []}
        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):  # whose products are counted
            context = network.embed_text(text, torch.ones_like(text[..., 0]))
            for side in sides:
                images = torch.zeros(1, 3, side, side, device="meta")
                indices = torch.zeros(1, side // 32, side // 32, dtype=torch.long, device="meta")
                with FlopCounterMode(display=False) as encoding:
                    z = tokenizer.encode_tiled(images, tile=TILE)
                with FlopCounterMode(display=False) as decoding:
                    tokenizer.decode_tiled(z, tile=TILE)
                with FlopCounterMode(display=False) as step:
                    network.encode(indices, context)
                for line, counter in zip(lines.values(), (encoding, decoding, step), strict=True):
                    line.append(counter.get_total_flops())
        return {part: slope(sides, line) for part, line in lines.items()}

    def text(self, length: int) -> Point:
        """Seconds of a pass over 64 tokens with so much text, and of embedding it."""
        config = replace(PRESETS["small"].generator, text_length=length)
        network = Generator(config).eval()
        text, mask = torch.randn(2, length, config.text_dim), torch.ones(2, length)
        indices = torch.full((2, 8, 8), network.mask_id)
        with torch.inference_mode():
            start = time.process_time()
            context = network.embed_text(text, mask)
            middle = time.process_time()
            network.encode(indices, context)
        return {"text, once": middle - start, "a step": time.process_time() - middle}

    def series(self, count: int) -> Point:
        """Seconds of so many images in batches of 4."""
        start = time.process_time()
        self.pipe(PROMPT, num_images=count, batch_size=4, height=64, width=64, num_steps=2)
        return {"all": time.process_time() - start}

    def axis(self, values: list[int], measure: Callable[[int], Point]) -> dict[str, Any]:
        """The points of an axis, and the exponents of what was measured."""
        points = []
        for value in values:
            LIBC.malloc_trim(0)  # what was freed before goes back to the system
            memory = PeakMemory(CPU)
            runs = [measure(value) for _ in range(self.rounds)]
            point = {part: min(run[part] for run in runs) for part in runs[0]}
            point["memory"] = max((memory.read() or 0) - self.before, 1) / 2**20
            points.append(point)
            print(value, {key: round(each, 4) for key, each in point.items()}, flush=True)
        lines = {part: [point[part] for point in points] for part in points[0]}
        exponents = {part: slope(values, line) for part, line in lines.items()}
        return {"values": values, "lines": lines, "exponents": exponents}


def slope(values: list[int], line: list[float]) -> float:
    """Of the logarithms, over the upper half of the values and at least three of them."""
    upper = slice(-max(3, math.ceil(len(values) / 2)), None)
    x, y = (np.log(np.maximum(each[upper], 1e-6)) for each in (values, line))
    return float(np.polyfit(x, y, 1)[0])


def shown(exponents: dict[str, float]) -> str:
    """Exponents as a line."""
    return ", ".join(f"{part} {value:.2f}" for part, value in exponents.items())


def plot(axes: dict[str, Any], out: Path) -> None:
    """A panel an axis: seconds of the parts, and memory, both by logarithms."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(10, 6.4))
    for panel, (title, axis) in zip(panels.flat, axes.items(), strict=True):
        right = panel.twinx()
        panel.set_ylim(1e-3, 30)
        right.set_ylim(1, 4000)
        for part, line in axis["lines"].items():
            label = f"{part} ({axis['exponents'][part]:.2f})"
            if part == "memory":
                right.loglog(axis["values"], line, "k:", label=label)
            else:
                panel.loglog(axis["values"], line, "o-", markersize=3, label=label)
        panel.set_title(title, fontsize=9)
        panel.set_xticks(axis["values"], axis["values"], fontsize=7)
        panel.set_xticks([], minor=True)
        handles = [each.get_legend_handles_labels() for each in (panel, right)]
        panel.legend(
            handles[0][0] + handles[1][0],
            handles[0][1] + handles[1][1],
            fontsize=6,
            loc="upper left",
        )
        panel.tick_params(axis="y", labelsize=7)
        right.tick_params(axis="y", labelsize=7)
    for row in panels:
        row[0].set_ylabel("processor seconds", fontsize=8)
    figure.text(
        0.995, 0.5, "memory, MiB (dotted)", rotation=270, va="center", ha="right", fontsize=8
    )
    figure.tight_layout(rect=(0, 0, 0.985, 1))
    figure.savefig(out, dpi=110)


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2, help="the least counts [2]")
    parser.add_argument("--largest", type=int, default=2048, help="side in pixels [2048]")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    words = parser.parse_args()
    torch.set_num_threads(1)
    growth = Growth(words.rounds)
    sides = [side for side in (256, 512, 1024, 2048) if side <= words.largest]
    axes = {
        "images, in batches of 4": growth.axis([4, 8, 16, 32, 64], growth.series),
        "text tokens": growth.axis([24, 60, 120, 240, 480], growth.text),
        "steps, both kinds, 256 px": growth.axis(
            [2, 4, 8, 16],
            lambda steps: growth.draw(
                batch=1, size=256, num_steps=steps, num_diffusion_steps=steps
            ),
        ),
        "batch, 256 px": growth.axis(
            [1, 2, 4, 8], lambda batch: growth.draw(batch=batch, size=256)
        ),
        "side in px, by tiles": growth.axis(sides, growth.tiles),
        "side in px": growth.axis(sides, lambda side: growth.draw(batch=1, size=side)),
    }
    settings = {"rounds": words.rounds, "torch": torch.__version__, "sampling": FEW, "tile": TILE}
    found = {"settings": settings, "axes": axes, "side, FLOPs": growth.flops(sides)}
    words.out.write_text(json.dumps(found, indent=1) + "\n")
    if words.plot:
        plot(axes, words.plot)
    for title, axis in axes.items():
        print(f"{title}: {shown(axis['exponents'])}")
    print(f"FLOPs by side: {shown(found['side, FLOPs'])}")


if __name__ == "__main__":
    main()

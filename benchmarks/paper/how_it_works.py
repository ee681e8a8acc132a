"""The figures of docs/how-it-works.md and of the light decoder, by the code that they are about.

python benchmarks/paper/how_it_works.py --out docs/pictures
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from dcar import Order, TextToImage
from dcar.pipeline.film import unmasking_film
from dcar.sampling.orders import parity_stages, stage_steps
from dcht import show_reconstruction
from dcht.images import grid

PROMPT, STEPS = "a photo of a red apple", 8
BLUE, ORANGE, GREY = "#3f51b5", "#ef6c00", "#9e9e9e"
WAY = {
    "image": (0, 1), "encoder": (1, 1), "z": (2, 1), "quantizer": (3, 1),
    "indices, z_q": (4, 1.5), "residual\nz - z_q": (4, 0.5), "z_q + residual": (5, 1),
    "decoder": (6, 1), "image ": (7, 1), "prompt": (1, 2.5), "transformer": (3, 2.5),
    "hidden states": (4, 3), "head": (5, 2.5),
}  # fmt: skip
"""The boxes of the way, each with its place."""
ARROWS = [
    ("image", "encoder"), ("encoder", "z"), ("z", "quantizer"), ("quantizer", "indices, z_q"),
    ("quantizer", "residual\nz - z_q"), ("indices, z_q", "z_q + residual"),
    ("residual\nz - z_q", "z_q + residual"), ("z_q + residual", "decoder"), ("decoder", "image "),
    ("prompt", "transformer"), ("transformer", "indices, z_q"), ("transformer", "hidden states"),
    ("hidden states", "head"), ("head", "z_q + residual"),
]  # fmt: skip
GENERATOR = {"prompt", "transformer", "hidden states", "head"}
STAGES = {
    "1  continuous warm-up": ("decode(z)", {"encoder", "decoder"}),
    "2  discrete learning": ("decode(z_q)", {"encoder", "codebook", "decoder"}),
    "3  alternate fine-tuning": ("either, by a coin", {"decoder"}),
}


def draw_way() -> Figure:
    """The way of the data: above what generates, below the tokenizer."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots()
    boxes = {}
    for name, (x, y) in WAY.items():
        color = ORANGE if name in GENERATOR else BLUE
        style = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": color, "lw": 1.6}
        text = axes.text(x, y, name, ha="center", va="center", bbox=style, fontsize=10)
        boxes[name] = text.get_bbox_patch()
    for start, end in ARROWS:
        color = ORANGE if start in GENERATOR else BLUE
        arrow = {"arrowstyle": "->", "color": color, "lw": 1.4, "patchA": boxes[start],
                 "patchB": boxes[end], "shrinkA": 3, "shrinkB": 3}  # fmt: skip
        axes.annotate("", WAY[end], WAY[start], arrowprops=arrow)
    axes.set(xlim=(-0.5, 7.5), ylim=(0, 3.5))
    axes.axis("off")
    return figure


def draw_stages() -> Figure:
    """Which parts each stage trains, and on which path."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    for row, (name, (path, trained)) in enumerate(STAGES.items()):
        axes.text(-0.9, -row, name, va="center", fontsize=10)
        for column, part in enumerate(("encoder", "codebook", "decoder")):
            on = part in trained
            box = {"boxstyle": "round,pad=0.5", "fc": BLUE if on else "white", "ec": GREY}
            color = "white" if on else GREY
            axes.text(column + 1.4, -row, part, color=color, ha="center", va="center", bbox=box)
        axes.text(4.2, -row, path, va="center", fontsize=10, family="monospace")
    axes.set(xlim=(-1, 5.6), ylim=(-2.6, 0.6))
    axes.axis("off")
    return figure


def reveal_steps(pipe: TextToImage, order: Order) -> torch.Tensor:
    """The step (from 1) in which each token of an image is revealed: (h, w)."""
    hidden = pipe.model.generator.mask_id
    previews = [p for p in pipe.stream(PROMPT, order=order, num_steps=STEPS) if not p.refined]
    still = torch.stack([preview.indices[0] == hidden for preview in previews])
    return still.sum(0) + 1


def _numbers(axes: Axes, values: torch.Tensor, title: str, most: int) -> None:
    axes.imshow(values.numpy(), cmap="viridis", vmin=1, vmax=most)
    for y, row in enumerate(values.tolist()):
        for x, value in enumerate(row):
            color = "black" if value > 0.7 * most else "white"
            axes.text(x, y, value, ha="center", va="center", fontsize=7, color=color)
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def draw_orders(pipe: TextToImage) -> Figure:
    """The step in which every order reveals every token of one image."""
    figure = Figure(figsize=(11, 3), layout="constrained")
    for axes, order in zip(figure.subplots(1, len(Order)), Order, strict=True):
        _numbers(axes, reveal_steps(pipe, order), order.value, STEPS)
    return figure


def draw_gtr() -> Figure:
    """Which of GtR's stages each token of 8 x 8 is in, and how many steps a stage has."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, steps in zip(figure.subplots(1, 3), (12, 8, 6), strict=True):
        shares = stage_steps(steps)
        stages = rearrange(parity_stages(8, 8, len(shares)), "s (h w) -> s h w", h=8)
        numbers = (stages * torch.arange(1, len(shares) + 1)[:, None, None]).sum(0)
        _numbers(axes, numbers, f"{steps} steps: {' + '.join(map(str, shares))}", len(shares))
    return figure


def draw_light(pipe: TextToImage) -> Image.Image:
    """Two images step by step, each first by the large decoder and then by the light one."""
    prompts, rows = [PROMPT, "a photo of two green cats"], []
    light = pipe.tokenizer.light
    for prompt in prompts:
        for decoder in (None, light):
            pipe.tokenizer.light = decoder
            rows.append(unmasking_film(pipe, prompt, tokens=False, num_steps=6, seed=1).sheet())
    return grid(rows, columns=1).resize((1036, 592), Image.Resampling.LANCZOS)


def main() -> None:
    """Write all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    out = parser.parse_args().out
    pipe = TextToImage.from_pretrained()
    figures = {
        "way": draw_way(), "stages": draw_stages(), "orders": draw_orders(pipe), "gtr": draw_gtr(),
    }  # fmt: skip
    for name, figure in figures.items():
        figure.savefig(out / f"how-{name}.png", dpi=90)
    made = pipe(["a photo of a red apple", "a photo of a blue car"]).images
    shown = [show_reconstruction(pipe.tokenizer, image).strip() for image in made]
    grid(shown, columns=1).save(out / "how-paths.png")
    draw_light(pipe).save(out / "light.png")


if __name__ == "__main__":
    main()

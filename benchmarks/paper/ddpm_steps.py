"""From how many steps of the residual head on is an image good? PSNR to the true one, by solver.

    python benchmarks/paper/ddpm_steps.py SPRITES [CHECKPOINT]

Held-out scenes, four of a task; the truth of a caption is the scene on each of the plain
backgrounds, and an image is held against the nearest of them. The indices are the same whatever
the steps: only the residual changes. SPRITES: see `dcar-eval scenes --help`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dcar import TextToImage
from dcar.config import Solver
from dcar_eval.scenes.backgrounds import names_of
from dcar_eval.scenes.captions import captions
from dcar_eval.scenes.grid import arrange, on_grid
from dcar_eval.scenes.layout import render_layout
from dcar_eval.scenes.sample import sample_scene
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import BENCHMARK, WORLDS, Scene, Split
from dcht.commands.common import OK, run

SIZE, A_TASK, BATCH = 256, 4, 12
STEPS = {
    Solver.ddpm: (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 32, 50),
    Solver.dpmpp: (1, 2, 4, 8, 20),
}


def truths(scene: Scene, sprites: Sprites) -> np.ndarray:
    """The scene on every plain background, (backgrounds, H, W, 3)."""
    images = (on_grid(scene, arrange(scene), name, SIZE) for name in names_of("plain"))
    return np.stack([np.asarray(render_layout(one, sprites), np.float32) for one in images])


def psnr(image: Image.Image, truth: np.ndarray) -> float:
    """PSNR in dB to the nearest of some true images."""
    errors = np.square(truth - np.asarray(image, np.float32)).mean(axis=(1, 2, 3))
    return float(10 * np.log10(255**2 / errors.min()))


def main() -> int:
    """Print a line a solver and number of steps."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("sprites", type=Path)
    words.add_argument("checkpoint", nargs="?")
    given = words.parse_args()
    things = tuple(sorted(WORLDS["wide"]))
    keys = [(number, task, k) for number, task in enumerate(BENCHMARK) for k in range(A_TASK)]
    scenes = [
        sample_scene(things, Split.HELD_OUT, np.random.default_rng([4242, number, k]), task)
        for number, task, k in keys
    ]
    sprites = Sprites(given.sprites, things)
    right = [truths(scene, sprites) for scene in scenes]
    prompts = [captions(scene)[0] for scene in scenes]
    pipe = TextToImage.from_pretrained(given.checkpoint)
    own = pipe.sampling

    def measure(name: str) -> None:
        images: list[Image.Image] = []
        for start in range(0, len(prompts), BATCH):
            images += pipe(prompts[start : start + BATCH], seed=5 + start).images
        values = [psnr(image, truth) for image, truth in zip(images, right, strict=True)]
        print(f"{name}: {np.mean(values):.2f} dB, 10th percentile {np.percentile(values, 10):.2f}")

    for solver, numbers in STEPS.items():
        for noise in (0.0, 1.0) if solver is Solver.ddpm else (1.0,):
            for steps in numbers:
                # As the checkpoint's own: what a caller asks for is refused below a limit.
                pipe.sampling = replace(
                    own, solver=solver, num_diffusion_steps=steps, head_temperature=noise
                )
                measure(f"{solver.value}, noise {noise:g}, {steps} steps")
    pipe.model.head = None
    pipe.sampling = own
    measure("no residual")
    return OK


if __name__ == "__main__":
    run(main)

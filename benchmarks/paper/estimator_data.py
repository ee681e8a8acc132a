"""What the estimator of fidelity learns from: spoiled images, each beside its true scene.

    python benchmarks/paper/estimator_data.py SPRITES --out OUT --rendered N --generated N \\
        [--tokenizers FOLDER ...] [--seed S]

Half of the images are true scenes of both grammars, spoiled: what a tokenizer loses, with codes
exchanged, with less or other residual, and blur, few pixels, noise, JPEG. The others are of the
bundled checkpoint at any number of steps, temperature and guidance, of prompts of the standard
benchmark with other seeds than its own. `images.npy` (n, 256, 256, 3) uint8, `maps.npy`
(n, 6, 32, 32) float32: `MAPS`, sums over cells of what lies between an image and its truth.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from PIL import Image, ImageFilter
from tqdm import tqdm

from dcar import TextToImage
from dcar_eval.geneval import evaluate_detections
from dcar_eval.hard.places import sample_layout
from dcar_eval.hard.sample import WEIGHTS, sample_any
from dcar_eval.metrics.likeness import high_pass
from dcar_eval.scenes.backgrounds import sample_background
from dcar_eval.scenes.estimator import CELLS, SIDE
from dcar_eval.scenes.fidelity import Truth, nearest_truth, truth_of
from dcar_eval.scenes.grid import arrange, on_grid
from dcar_eval.scenes.layout import Layout
from dcar_eval.scenes.prompts import sample_prompts
from dcar_eval.scenes.recognizer import Recognizer, shrink
from dcar_eval.scenes.sample import sample_scene
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import SPRITE_LABELS, WORLDS, Split
from dcht import Latents, Tokenizer
from dcht.commands.common import OK, run
from dcht.images import to_pil, to_tensor

MAPS = ("error", "error_objects", "product", "ours", "theirs", "pixels")
"""Squared error of all pixels; then of the objects' boxes: squared error, product and squares of
what is left of both by `likeness.high_pass`, number of values."""
SIZES, SIZE_SHARES = (256, 512), (0.96, 0.04)
WIDE = tuple(sorted(WORLDS["wide"]))
WAYS = 3
"""In which each true scene is spoiled."""
SEED_OF_PROMPTS = 90_000
"""The benchmark's own seeds are small."""


def maps_of(image: Image.Image, truth: Truth) -> np.ndarray:
    """`MAPS` of an image and its truth, (6, CELLS, CELLS)."""
    ours, theirs = (np.asarray(i, dtype=np.float32) for i in (image, truth.pixels))
    error, a, b = (ours - theirs) ** 2, high_pass(ours), high_pass(theirs)
    inside = truth.objects[..., None]
    parts = [error, error * inside, a * b * inside, a * a * inside, b * b * inside]
    parts.append(np.broadcast_to(inside, error.shape).astype(np.float32))
    found = [
        reduce(p, "(h i) (w j) c -> h w", "sum", h=CELLS, w=CELLS).astype(np.float32) for p in parts
    ]
    return np.stack(found)


def as_read(image: Image.Image) -> Image.Image:
    """An image at the size at which the estimator reads it."""
    return to_pil(shrink(to_tensor(image)[None], SIDE)[0])


def true_scene(rng: np.random.Generator, sprites: Sprites) -> Truth:
    """A scene of either grammar."""
    size = int(rng.choice(SIZES, p=SIZE_SHARES))
    objects = WIDE if rng.random() < 0.85 else tuple(SPRITE_LABELS)
    if rng.random() < 0.75:
        split = list(Split)[int(rng.integers(2))]
        scene = sample_scene(objects, split, rng)
        kind = "plain" if rng.random() < 0.8 else "photographic"
        layout: Layout = on_grid(scene, arrange(scene), sample_background(scene, rng, kind), size)
    else:
        task = list(WEIGHTS)[rng.choice(len(WEIGHTS), p=list(WEIGHTS.values()))]
        layout, _ = sample_layout(sample_any(task, objects, rng), sprites, size, rng, strict=False)
    return truth_of(layout, sprites)


@torch.inference_mode()
def through_codes(latents: Latents, tokenizer: Tokenizer, rng: np.random.Generator) -> Image.Image:
    """What a tokenizer gives back, mostly after something is done to codes and residual."""
    indices, residual = latents.indices, latents.residual
    if rng.random() < 0.5:
        share = rng.uniform(0.01, 0.6) ** 2
        wrong = torch.from_numpy(rng.random(indices.shape) < share)
        shift = tuple(int(v) for v in rng.integers(-1, 2, 2))
        others = torch.roll(indices, shift, dims=(1, 2))
        if rng.random() < 0.5:
            assert tokenizer.quantizer is not None
            count = tokenizer.quantizer.size
            codes = tokenizer.lookup(torch.arange(count)[None, None])
            codes = rearrange(codes, "1 c 1 k -> k c")
            own = rearrange(tokenizer.lookup(indices), "1 c h w -> (h w) c")
            near = torch.cdist(own, codes).topk(9, largest=False).indices[:, 1:]
            pick = torch.from_numpy(rng.integers(0, 8, (len(own), 1)))
            others = rearrange(near.gather(1, pick), "(h w) 1 -> 1 h w", h=indices.shape[1])
        indices = torch.where(wrong, others, indices)
    if rng.random() < 0.6:
        residual = residual * float(rng.choice([0.0, rng.uniform(0, 1.3)]))
    if rng.random() < 0.4:
        noise = torch.from_numpy(rng.normal(0, 1, residual.shape)).float()
        residual = residual + rng.uniform(0, 1.2) * residual.std() * noise
    return to_pil(tokenizer.decode(tokenizer.lookup(indices) + residual)[0])


def worn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blurred, of few pixels, noisy or compressed: one of these, or two."""
    size, filters = image.width, list(Image.Resampling)
    for way in rng.choice(5, int(rng.integers(1, 3)), replace=False, p=(0.4, 0.35, 0.1, 0.1, 0.05)):
        if way == 0:
            sigma = float(np.exp(rng.uniform(np.log(0.4), np.log(10)))) * size / 256
            image = image.filter(ImageFilter.GaussianBlur(sigma))
        elif way == 1:
            side = round(float(np.exp(rng.uniform(np.log(8), np.log(220)))))
            there, back = (filters[int(k)] for k in rng.integers(len(filters), size=2))
            image = image.resize((side, side), there).resize((size, size), back)
        elif way == 2:
            pixels = np.asarray(image) + rng.normal(0, rng.uniform(1, 25), (size, size, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        elif way == 3:
            buffer = io.BytesIO()
            image.save(buffer, format="JPEG", quality=int(rng.integers(5, 80)))
            image = Image.open(buffer).convert("RGB")
        else:
            pixels = np.asarray(image, dtype=np.float32)
            pixels = (pixels - 128) * rng.uniform(0.6, 1.2) + 128 + rng.normal(0, 8, 3)
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image


def rendered(
    seed: int, sprites: Sprites, tokenizers: list[Tokenizer]
) -> Iterator[tuple[Image.Image, Truth]]:
    """True scenes, each spoiled in `WAYS` ways, and themselves."""
    for index in count():
        rng = np.random.default_rng([seed, index])
        truth = true_scene(rng, sprites)
        tokenizer = tokenizers[int(rng.integers(len(tokenizers)))]
        latents = tokenizer.tokenize(to_tensor(truth.pixels)[None])
        for _ in range(WAYS):
            image, codes = truth.pixels, rng.random() < 0.65
            if codes:
                image = through_codes(latents, tokenizer, rng)
            if rng.random() < (0.35 if codes else 0.9):
                image = worn(image, rng)
            yield image, truth


def generated(seed: int, sprites: Sprites) -> Iterator[tuple[Image.Image, Truth]]:
    """Images of the bundled checkpoint, settings by lot, and the truth nearest to each."""
    pipe, (recognizer, _) = TextToImage.from_pretrained(), Recognizer.from_pretrained()
    for index in count():
        rng = np.random.default_rng([seed, index, 1])
        prompts = sample_prompts(
            WIDE, num_per_task=1, seed=SEED_OF_PROMPTS * (seed + 1) + index,
            split=list(Split)[int(rng.integers(2))],
        )  # fmt: skip
        prompt = prompts[int(rng.integers(len(prompts)))]
        size = int(rng.choice(SIZES, p=SIZE_SHARES))
        wild = rng.random() < 0.4
        result = pipe(
            [prompt.metadata["prompt"]], height=size, width=size, seed=SEED_OF_PROMPTS + index,
            num_steps=int(rng.choice([1, 1, 2, 3, 4, 6, 8, 12, 24])),
            order=str(rng.choice(["halton", "confidence", "random"])),
            temperature=float(rng.uniform(0, 4)) if wild else 0.7,
            cfg_scale=float(rng.uniform(0, 4)) if wild else 0.5,
            head_temperature=float(rng.uniform(0, 1)) if rng.random() < 0.4 else 0.0,
            num_diffusion_steps=8,
        )  # fmt: skip
        image = result.images[0]
        (found,) = recognizer.detect([image])
        verdict = evaluate_detections(prompt.metadata, found, recognizer.config.options)
        right = found if verdict.correct else None
        yield image, nearest_truth(image, prompt.right(size), prompt.backgrounds, sprites, right)


def main() -> int:
    """Write both kinds."""
    parser = argparse.ArgumentParser(prog="benchmarks/paper/estimator_data.py")
    parser.add_argument("sprites", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rendered", type=int, required=True)
    parser.add_argument("--generated", type=int, required=True)
    parser.add_argument("--tokenizers", type=Path, nargs="*", default=[], help="beside the bundled")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    sprites = Sprites(a.sprites, tuple(SPRITE_LABELS))
    tokenizers = [Tokenizer.from_pretrained(name) for name in (None, *a.tokenizers)]
    kinds = {
        "rendered": (a.rendered, lambda: rendered(a.seed, sprites, tokenizers)),
        "generated": (a.generated, lambda: generated(a.seed, sprites)),
    }
    for kind, (number, make) in kinds.items():
        if number == 0:
            continue
        folder = a.out / kind
        folder.mkdir(parents=True, exist_ok=True)
        images = np.lib.format.open_memmap(
            folder / "images.npy", "w+", np.uint8, (number, SIDE, SIDE, 3)
        )
        maps = np.lib.format.open_memmap(
            folder / "maps.npy", "w+", np.float32, (number, len(MAPS), CELLS, CELLS)
        )
        pairs = zip(range(number), make(), strict=False)
        for index, (image, truth) in tqdm(pairs, total=number, desc=kind, disable=None):
            images[index] = np.asarray(as_read(image))
            maps[index] = maps_of(image, truth)
        images.flush()
        maps.flush()
    return OK


if __name__ == "__main__":
    run(main)

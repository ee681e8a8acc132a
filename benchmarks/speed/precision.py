"""What each precision costs in quality on the bundled checkpoint, against fp32 with the same noise.

    OMP_NUM_THREADS=1 python benchmarks/speed/precision.py --num-per-task 8

A row a precision: the share of correct images on the scenes; PSNR to the image of fp32 where the
tokens of fp32 are given (the pass that the residual is drawn from, the residual and the decoder are
in the precision of the row) and where each draws its own; the share of tokens that differ then; and
processor seconds an image.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from einops import rearrange

from dcar import TextToImage
from dcar.randomness import keyed_generator
from dcar.sampler import sample_head_noise, sample_residual, unmask
from dcar.sampling.guidance import guidance_context
from dcht.images import to_pil

BATCH = 8


def psnr(image: Any, other: Any) -> float:
    """In dB; 99 for equal images."""
    a, b = (np.asarray(pixels, dtype=np.float64) for pixels in (image, other))
    return float(10 * np.log10(255**2 / max(np.square(a - b).mean(), 10**-5.1)))


@torch.inference_mode()
def last_passes(pipe: TextToImage, prompts: list[str]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Before and after the last step, in fp32: the indices of each batch."""
    found = []
    for batch in batches(prompts):
        ids, mask = (part.to(pipe.device) for part in pipe.text.tokenize(batch))
        patch = pipe.tokenizer.config.downsampling
        *_, before, last = unmask(
            pipe.model.generator, pipe.text(ids, mask), mask,
            grid=(pipe.size[0] // patch, pipe.size[1] // patch), config=pipe.sampling,
            generators=[keyed_generator(0, number) for number in range(len(batch))],
        )  # fmt: skip
        found.append((before.indices, last.indices))
    return found


@torch.inference_mode()
def given(pipe: TextToImage, prompts: list[str], passes: list[Any]) -> list[Any]:
    """Images of tokens that are given, with the same noise in the residual head."""
    images = []
    for batch, (before, indices) in zip(batches(prompts), passes, strict=True):
        ids, mask = (part.to(pipe.device) for part in pipe.text.tokenize(batch))
        generator, head = pipe.model.generator, pipe.model.head
        assert head is not None
        context = guidance_context(generator, pipe.text(ids, mask), mask, guided=True)
        hidden = generator.encode(torch.cat([before, before]), context)
        noise = sample_head_noise(
            [keyed_generator(1, number) for number in range(len(batch))],
            head, indices[0].numel(), pipe.sampling,
        )  # fmt: skip
        residual = sample_residual(head, hidden, config=pipe.sampling, noise=noise)
        residual = rearrange(residual, "b (h w) c -> b c h w", h=indices.shape[1])
        pixels = pipe.tokenizer.decode(pipe.tokenizer.lookup(indices) + residual)
        images += [to_pil(image) for image in pixels]
    return images


def batches(prompts: list[str]) -> list[list[str]]:
    """By eights."""
    return [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]


def main() -> None:
    """Measure each precision, print JSON a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--precisions", default="fp32,bf16,fp16,int8")
    parser.add_argument("--num-per-task", type=int, default=8)
    arguments = parser.parse_args()
    from dcar_eval.scenes.evaluate import SceneJudges
    from dcar_eval.scenes.prompts import known_objects, sample_prompts

    wide = TextToImage.from_pretrained()
    drawn = sample_prompts(known_objects(wide), num_per_task=arguments.num_per_task, seed=0)
    prompts = [prompt.metadata["prompt"] for prompt in drawn]
    judges = SceneJudges.load(known_objects(wide), wide.tokenizer, None, wide.device)
    passes = last_passes(wide, prompts)
    true_given, true = given(wide, prompts, passes), None
    for precision in arguments.precisions.split(","):
        pipe = TextToImage.from_pretrained(precision=precision)
        start = time.process_time()
        free = pipe(prompts, seed=0)
        seconds = (time.process_time() - start) / len(prompts)
        true = true or free
        teacher = given(pipe, prompts, passes)
        with TemporaryDirectory() as folder:
            files = [Path(folder) / f"{number}.png" for number in range(len(prompts))]
            for image, file in zip(free.images, files, strict=True):
                image.save(file)
            score = judges.report(files, drawn, Path(folder), {}, time.perf_counter())
        pairs = [
            sorted(psnr(*pair) for pair in zip(*images, strict=True))
            for images in ((teacher, true_given), (free.images, true.images))
        ]
        row = {
            "precision": precision,
            "scenes": round(score["overall"], 3),
            "given_min": round(pairs[0][0], 1),
            "given_median": round(float(np.median(pairs[0])), 1),
            "free_median": round(float(np.median(pairs[1])), 1),
            "free_tenth": round(pairs[1][len(prompts) // 10], 1),
            "tokens_differ": round(float((free.indices != true.indices).double().mean()), 4),
            "seconds": round(seconds, 3),
            "images": len(prompts),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

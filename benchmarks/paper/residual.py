"""How good is the residual that a generator draws, when the indices are the right ones?

    python benchmarks/paper/residual.py CHECKPOINT LATENTS [LATENTS ...]

The first 48 images of each store: their own indices, the residual drawn by the head under their
first caption, unguided, decoded and held against the image of the true residual (PSNR in dB, the
mean; beside it that of the indices alone). Then which share of the true residual's variance the
drawn one explains, and how long the gradient of the diffusion loss is on the transformer's blocks,
as a share of the cross-entropy's, of a training batch of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from dcar import TextToImage
from dcar.config import LossConfig
from dcar.sampling.guidance import guidance_context
from dcht.commands.common import OK, run
from dcht.errors import UsageError
from dcht.latents import LatentsStore
from dcht.tokenizer import Tokenizer

NUMBER = 48
BATCH = 8
TEMPERATURES = (1.0, 0.0)
"""Of the head's noise; 0 draws close to the mean."""


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Of each image (b,), for the range [-1, 1]."""
    return 10 * torch.log10(4 / rearrange((images - targets) ** 2, "b ... -> b (...)").mean(dim=1))


@torch.inference_mode()
def quality(
    pipe: TextToImage, tokenizer: Tokenizer, indices: Tensor, residual: Tensor, texts: list[str]
) -> Tensor:
    """Of each image (b, 1 + 2 temperatures): PSNR of the indices, PSNRs, shares explained."""
    tokens, head = pipe.text.tokenize(texts), pipe.model.head
    assert head is not None  # main has looked
    text = pipe.text(tokens.ids, tokens.mask)
    context = guidance_context(pipe.model.generator, text, tokens.mask, guided=False)
    hidden = pipe.model.generator.encode(indices, context)
    codes = tokenizer.lookup(indices)
    target = tokenizer.decode(codes + residual)
    alike, explained = [psnr(tokenizer.decode(codes), target)], []
    for temperature in TEMPERATURES:
        noise = torch.Generator().manual_seed(0)
        flat = head.sample(hidden, generator=noise, temperature=temperature)
        drawn = rearrange(flat, "b (h w) c -> b c h w", h=indices.shape[1])
        alike.append(psnr(tokenizer.decode(codes + drawn), target))
        error = rearrange((drawn - residual) ** 2, "b ... -> b (...)").mean(dim=1)
        explained.append(1 - error / residual.var())
    return torch.stack([*alike, *explained], dim=1)


def gradient_share(pipe: TextToImage, indices: Tensor, residual: Tensor, texts: list[str]) -> float:
    """The length of the diffusion loss's gradient on the blocks over the cross-entropy's."""
    tokens = pipe.text.tokenize(texts)
    with torch.no_grad():
        text = pipe.text(tokens.ids, tokens.mask)
    randomness = pipe.model.sample_randomness(0, range(len(indices)), indices[0].numel())
    losses = pipe.model(indices, residual, text, tokens.mask, randomness, loss=LossConfig())
    blocks = list(pipe.model.generator.blocks.parameters())
    lengths = []
    for loss in (losses.diffusion, losses.cross_entropy):
        gradients = torch.autograd.grad(loss, blocks, retain_graph=True, allow_unused=True)
        lengths.append(torch.stack([g.norm() for g in gradients if g is not None]).norm())
    return float(lengths[0] / lengths[1])


def main() -> int:
    """Print a line for each store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("latents", type=Path, nargs="+")
    arguments = parser.parse_args()
    pipe = TextToImage.from_pretrained(arguments.checkpoint)
    if pipe.model.head is None:
        raise UsageError(f"{arguments.checkpoint} is discrete only: it draws no residual")
    for folder in arguments.latents:
        store = LatentsStore(folder)
        if not all("captions" in row for row in store.rows[:NUMBER]):
            raise UsageError(f"{folder} has no captions; encode images with a .txt beside each")
        rows, batches = [], []
        for start in range(0, min(NUMBER, len(store.rows)), BATCH):
            numbers = range(start, min(start + BATCH, NUMBER, len(store.rows)))
            read = [store.read(number) for number in numbers]
            indices = torch.stack([indices for indices, _ in read])
            residual = torch.stack([residual.float() for _, residual in read])
            texts = [store.rows[number]["captions"][0] for number in numbers]
            batches.append((indices, residual, texts))
            rows.append(quality(pipe, pipe.tokenizer, indices, residual, texts))
        alone, *rest = torch.cat(rows).mean(dim=0).tolist()
        count = len(TEMPERATURES)
        found = ", ".join(
            f"{alike:.1f} dB with it at temperature {temperature:g} ({share:.0%} explained)"
            for temperature, alike, share in zip(
                TEMPERATURES, rest[:count], rest[count:], strict=True
            )
        )
        share = gradient_share(pipe, *batches[0])
        print(f"{folder}: {alone:.1f} dB without a residual, {found}; gradients {share:.3f}")
    return OK


if __name__ == "__main__":
    run(main)

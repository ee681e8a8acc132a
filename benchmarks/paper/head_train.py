"""Heads of one network and several objectives, on the hidden states of the bundled generator.

    python benchmarks/paper/head_train.py TRAIN HELD_OUT --images IMAGES --out OUT [--seed S]

TRAIN and HELD_OUT are stores of latents with captions, IMAGES the folder that HELD_OUT encodes.
The generator is frozen, so every objective sees the same conditions; what differs is what the
network is asked for and how its answers become a residual:

    epsilon     the noise, cosine schedule (DDPM): `dcar.modules.diffusion_head`, as the paper
    v           sqrt(a) noise - sqrt(1 - a) x0 (Salimans and Ho 2022), same schedule and sampler
    flow        noise - x0 along a straight line, logit-normal times (Esser et al. 2024), Euler
    regression  x0 itself, mean squared error, one pass

`centered`: the mean residual of each code is subtracted before and added after. The temperature is
a factor of the noise in each step of `epsilon` and `v`, and of the start of `flow`. OUT/rows.json
says of every objective, number of steps and temperature: PSNR in dB against the image of the true
residual, KID against the true images, and which share of the residual's variance is explained. It
grows by an objective at a time; those that it has are not trained again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange, reduce
from torch import Tensor

from dcar import TextToImage
from dcar.config import Schedule
from dcar.masking import training_mask
from dcar.modules.diffusion import TRAIN_STEPS, GaussianDiffusion, respaced_timesteps
from dcar.modules.diffusion_head import DiffusionHead
from dcar.sampling.guidance import guidance_context
from dcar_eval.metrics.distances import kernel_distance
from dcar_eval.metrics.features import Extractor, load_extractor
from dcar_eval.metrics.pixels import eight_bits
from dcht.files import write_atomic
from dcht.images import list_images, open_image, to_tensor
from dcht.latents import LatentsStore
from dcht.tokenizer import Tokenizer

ARMS = [
    ("epsilon", False), ("epsilon", True), ("v", False), ("flow", False), ("flow", True),
    ("regression", False), ("regression", True),
]  # fmt: skip
"""Objective, and whether the codes' means are subtracted."""
POINTS = [
    *((steps, 0.0) for steps in (1, 2, 4, 8, 20)),
    *((steps, temperature) for temperature in (0.5, 1.0) for steps in (4, 20)),
]
"""Steps and temperatures that a head is measured at."""
BATCH, ROWS = 32, 1024
"""Images of a pass of the generator, positions of a training step."""
COPIES = 2
"""Masks that each training image is seen under."""


class Tokens(NamedTuple):
    """Positions of all images, p in all."""

    hidden: Tensor
    """(p, d) what the head is told."""
    codes: Tensor
    """(p,)."""
    residual: Tensor
    """(p, c)."""


@torch.inference_mode()
def read(pipe: TextToImage, folder: Path, *, copies: int, seed: int) -> Tokens:
    """Hidden states of a store's images, each masked as in training `copies` times; 0: nothing
    is masked, as where the sampler draws the residual.
    """
    store, random = LatentsStore(folder), torch.Generator().manual_seed(seed)
    found: list[Tokens] = []
    for start in range(0, len(store.rows), BATCH):
        numbers = range(start, min(start + BATCH, len(store.rows)))
        pairs = [store.read(number) for number in numbers]
        indices = torch.stack([indices for indices, _ in pairs])
        residual = torch.stack([residual.float() for _, residual in pairs])
        tokens = pipe.text.tokenize([store.rows[number]["captions"][0] for number in numbers])
        text = pipe.text(tokens.ids, tokens.mask)
        context = guidance_context(pipe.model.generator, text, tokens.mask, guided=False)
        for _ in range(max(copies, 1)):
            seen = indices
            if copies:
                ratios = torch.rand(len(indices), generator=random)
                orders = torch.rand(len(indices), indices[0].numel(), generator=random)
                mask = training_mask(ratios, orders, Schedule.arccos)
                hidden_places = rearrange(mask, "b (h w) -> b h w", h=indices.shape[1])
                seen = indices.masked_fill(hidden_places, pipe.model.generator.mask_id)
            hidden = pipe.model.generator.encode(seen, context)
            found.append(
                Tokens(
                    rearrange(hidden, "b n d -> (b n) d"),
                    rearrange(indices, "b h w -> (b h w)"),
                    rearrange(residual, "b c h w -> (b h w) c"),
                )
            )
    return Tokens(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def regress(head: DiffusionHead, condition: Tensor) -> Tensor:
    """What the network says (p, c) where it is told nothing but the condition.

    Its input is ones: with zeros, and modulations that begin at zero, no gradient reaches any
    weight, and it learns one bias for all.
    """
    ones = torch.ones(len(condition), head.latent_channels)
    start = torch.zeros(len(condition), dtype=torch.long)
    return head(ones, start, condition)[:, : head.latent_channels]


def loss(
    head: DiffusionHead, objective: str, x0: Tensor, condition: Tensor, random: torch.Generator
) -> Tensor:
    """Of rows x0 (p, c) of unit scale; a scalar."""
    noise = torch.randn(x0.shape, generator=random)
    channels = x0.shape[1]
    if objective == "regression":
        return (regress(head, condition) - x0).square().mean()
    if objective == "flow":
        time = torch.randn(len(x0), 1, generator=random).sigmoid()
        x_t = (1 - time) * x0 + time * noise
        answer = head(x_t, rearrange(TRAIN_STEPS * time, "p 1 -> p"), condition)[:, :channels]
        return (answer - (noise - x0)).square().mean()
    t = torch.randint(TRAIN_STEPS, (len(x0),), generator=random)
    x_t = head.diffusion.add_noise(x0, t, noise)
    if objective == "v":
        answer = head(x_t, t, condition)[:, :channels]
        velocity = head.diffusion.add_noise(noise, t, torch.zeros_like(x0))
        signal = rearrange(head.diffusion.alphas_cumprod[t].float(), "p -> p 1")
        return (answer - (velocity - (1 - signal).sqrt() * x0)).square().mean()
    terms = head.diffusion.terms(head(x_t, t, condition), x0, x_t, t, noise)
    return (terms.mse + terms.vb).mean()


@torch.inference_mode()
def sample(
    head: DiffusionHead,
    objective: str,
    condition: Tensor,
    steps: int,
    temperature: float,
    seed: int,
) -> Tensor:
    """Residuals (p, c) of unit scale."""
    random = torch.Generator().manual_seed(seed)
    channels = head.latent_channels
    if objective == "regression":
        return regress(head, condition)
    if objective == "epsilon":
        drawn = head.sample(condition, steps, generator=random, temperature=temperature)
        return drawn / head.config.residual_std
    x = torch.randn(len(condition), channels, generator=random)
    if objective == "flow":
        x = temperature * x
        for step in range(steps):
            time = 1 - step / steps
            t = torch.full((len(x),), TRAIN_STEPS * time)
            x = x - head(x, t, condition)[:, :channels] / steps
        return x
    chain, limit = GaussianDiffusion(respaced_timesteps(steps)), head.config.clip
    for step in reversed(range(steps)):
        t = torch.full((len(x),), int(chain.timesteps[step]))
        signal = float(chain.alphas_cumprod[step])
        answer = head(x, t, condition)[:, :channels]
        x0 = signal**0.5 * x - (1 - signal) ** 0.5 * answer
        x0 = x0.clamp(-limit, limit) if limit else x0
        x = chain.posterior_mean(x0, x, step)
        if step:
            deviation = float((0.5 * chain.posterior_log_variance[step]).exp())
            x = x + temperature * deviation * torch.randn(x.shape, generator=random)
    return x


def train(
    pipe: TextToImage, objective: str, tokens: Tokens, targets: Tensor, *, steps: int, seed: int
) -> DiffusionHead:
    """A head of the bundled one's size, from random weights, for targets (p, c) of unit scale."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    assert pipe.model.head is not None  # the bundled checkpoint has one
    head = DiffusionHead(replace(pipe.model.head.config, residual_std=1.0, batch_mul=1))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(targets), (ROWS,), generator=random)
        value = loss(head, objective, targets[rows], tokens.hidden[rows], random)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return head.eval()


@torch.inference_mode()
def pictures(tokenizer: Tokenizer, tokens: Tokens, residual: Tensor, side: int) -> Tensor:
    """Images (b, 3, H, W) in [-1, 1] of codes and residuals (p, c), `side` tokens a side."""
    indices = rearrange(tokens.codes, "(b h w) -> b h w", h=side, w=side)
    grid = rearrange(residual, "(b h w) c -> b c h w", h=side, w=side)
    parts = zip(indices.split(BATCH), grid.split(BATCH), strict=True)
    return torch.cat([tokenizer.decode(tokenizer.lookup(i) + r).clamp(-1, 1) for i, r in parts])


def psnr(images: Tensor, targets: Tensor) -> float:
    """The mean over images, in dB."""
    errors = reduce((images - targets).square(), "b c h w -> b", "mean")
    return float((10 * (4 / errors).log10()).mean())


def measure(
    draw: Callable[[int, float], Tensor],
    points: list[tuple[int, float]],
    *,
    tokenizer: Tokenizer,
    tokens: Tokens,
    extractor: Extractor,
    real: Any,
    side: int,
) -> list[dict[str, Any]]:
    """A row a point (steps, temperature) of residuals (p, c) that `draw` makes."""
    true = pictures(tokenizer, tokens, tokens.residual, side)
    rows = []
    for steps, temperature in points:
        drawn = draw(steps, temperature)
        images = pictures(tokenizer, tokens, drawn, side)
        features = torch.cat(
            [torch.from_numpy(extractor(eight_bits(part))) for part in images.split(BATCH)]
        )
        error = (drawn - tokens.residual).square().mean() / tokens.residual.var()
        rows.append(
            {
                "steps": steps,
                "temperature": temperature,
                "psnr": round(psnr(images, true), 3),
                "kid": round(kernel_distance(real, features.numpy())["value"], 5),
                "explained": round(float(1 - error), 4),
            }
        )
    return rows


def main() -> None:
    """Train and measure every arm that OUT has not yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    file = words.out / "rows.json"
    known = json.loads(file.read_text()) if file.exists() else {"rows": [], "steps": words.steps}
    if known["steps"] != words.steps:
        raise SystemExit(f"{file} is of heads of {known['steps']} steps, not {words.steps}")
    found: list[dict[str, Any]] = known["rows"]
    done = {(row["arm"], row["centered"]) for row in found}
    todo = [arm for arm in ARMS if arm not in done]
    if not todo:
        return
    pipe = TextToImage.from_pretrained()
    shown = read(pipe, words.train, copies=COPIES, seed=words.seed)
    held = read(pipe, words.held_out, copies=0, seed=words.seed)
    side = LatentsStore(words.held_out).read(0)[0].shape[-1]
    extractor = load_extractor("efficientnet-lite0", device=torch.device("cpu"))
    true = torch.stack([to_tensor(open_image(file)) for file in list_images(words.images)])
    parts = [torch.from_numpy(extractor(eight_bits(part))) for part in true.split(BATCH)]
    shared = {
        "tokenizer": pipe.tokenizer, "tokens": held, "extractor": extractor,
        "real": torch.cat(parts).numpy(), "side": side,
    }  # fmt: skip

    codes = int(shown.codes.max() + 1)
    counts = shown.codes.bincount(minlength=codes).clamp(min=1)
    sums = torch.zeros(codes, shown.residual.shape[1]).index_add(0, shown.codes, shown.residual)
    means = sums / rearrange(counts, "k -> k 1")
    within = (shown.residual - means[shown.codes]).var() / shown.residual.var()
    print(f"the codes' means are {1 - within:.3f} of the residual's variance")

    if not found:
        rows = measure(lambda *_: torch.zeros_like(held.residual), [(0, 0.0)], **shared)
        rows += measure(lambda *_: held.residual, [(0, 1.0)], **shared)
        rows += measure(lambda *_: means[held.codes.clamp(max=codes - 1)], [(0, 0.5)], **shared)
        names = ["no residual", "the true residual", "the code's mean"]
        found += [
            {"seed": words.seed, "arm": name, "centered": False, **row}
            for name, row in zip(names, rows, strict=True)
        ]
    words.out.mkdir(parents=True, exist_ok=True)
    for objective, centered in todo:
        mean = means if centered else torch.zeros_like(means)
        scale = (shown.residual - mean[shown.codes]).std()
        targets = (shown.residual - mean[shown.codes]) / scale
        head = train(pipe, objective, shown, targets, steps=words.steps, seed=words.seed)

        def draw(
            steps: int, temperature: float, objective: str = objective, mean: Tensor = mean,
            scale: Tensor = scale, head: DiffusionHead = head,
        ) -> Tensor:  # fmt: skip
            made = sample(head, objective, held.hidden, steps, temperature, words.seed)
            return made * scale + mean[held.codes.clamp(max=codes - 1)]

        for row in measure(draw, POINTS if objective != "regression" else [(1, 0.0)], **shared):
            found.append({"seed": words.seed, "arm": objective, "centered": centered, **row})
            print(json.dumps(found[-1]), flush=True)
        kept = {"steps": words.steps, "mean_of_codes": round(float(1 - within), 4), "rows": found}
        write_atomic(file, (json.dumps(kept, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()

"""DCAR: the generator and its residual head, with the training loss of section 3.2.

The same hidden states predict the masked indices (cross-entropy) and condition the diffusion loss
of the residual, at every position. No text encoder is here: text comes in as embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from dcar.config import DCARConfig, LossConfig, Schedule
from dcar.masking import training_mask
from dcar.modules.diffusion import TRAIN_STEPS
from dcar.modules.diffusion_head import DiffusionHead
from dcar.modules.transformer import Generator
from dcar.randomness import keyed_generator


class Randomness(NamedTuple):
    """Everything random about b training samples except attention dropout."""

    mask: Tensor
    """(b, n) boolean, True where the index is hidden."""
    drop: Tensor
    """(b,) boolean, True where the caption is replaced by the null caption."""
    t: Tensor
    """(m, b, n) timesteps of the head, m = batch_mul."""
    noise: Tensor
    """(m, b, n, c) standard normal noise of the head."""

    def part(self, start: int, stop: int) -> Randomness:
        """That of samples start to stop."""
        return Randomness(
            self.mask[start:stop],
            self.drop[start:stop],
            self.t[:, start:stop],
            self.noise[:, start:stop],
        )


RATIO_BINS = 4
"""Quarters of the mask ratio into which `Losses` sorts samples: few masked tokens are easy."""


class Losses(NamedTuple):
    """Scalars: `total` is what training minimizes, `accuracy` that of the masked indices."""

    total: Tensor
    cross_entropy: Tensor
    diffusion: Tensor
    accuracy: Tensor
    by_ratio: Tensor
    """(4, 3): of the samples in each quarter of the mask ratio, the masked indices' summed
    cross-entropy, how many were right, and how many there were. No gradient."""


class DCAR(nn.Module):
    """Generator plus diffusion head; without the head, the discrete-only baseline of Table 4."""

    def __init__(self, config: DCARConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config.generator)
        # Made in either case, so that what is initialized after it starts from the same weights.
        head = DiffusionHead(config.head)
        self.head = None if config.discrete_only else head

    def sample_randomness(
        self,
        seed: int,
        samples: Sequence[int],
        num_positions: int,
        *,
        mask_schedule: Schedule = Schedule.arccos,
    ) -> Randomness:
        """What is random in training samples, each from a generator of its own (on the CPU).

        Args:
            seed: of the run.
            samples: numbers of the samples in the stream of training data.
            num_positions: n = h w.
            mask_schedule: the law of the mask ratio; the random numbers are the same under each.
        """
        copies = self.config.head.batch_mul if self.head is not None else 0
        channels = self.config.head.latent_channels
        ratios, orders, drops, ts, noises = [], [], [], [], []
        for sample in samples:
            generator = keyed_generator(seed, sample)
            uniform = torch.rand(2 + num_positions, generator=generator)
            ratios.append(uniform[0])
            drops.append(uniform[1])
            orders.append(uniform[2:])
            ts.append(torch.randint(TRAIN_STEPS, (copies, num_positions), generator=generator))
            noises.append(torch.randn(copies, num_positions, channels, generator=generator))
        return Randomness(
            training_mask(
                torch.stack(ratios),
                torch.stack(orders),
                mask_schedule,
                self.config.generator.fully_masked,
            ),
            torch.stack(drops) < self.config.generator.cond_dropout,
            torch.stack(ts, dim=1),
            torch.stack(noises, dim=1),
        )

    def forward(
        self,
        indices: Tensor,
        residual: Tensor,
        text: Tensor,
        text_mask: Tensor,
        randomness: Randomness,
        *,
        loss: LossConfig,
        share: float = 1.0,
        weight_sum: Tensor | None = None,
    ) -> Losses:
        """The training losses of a batch, or its part of those of a larger one.

        Args:
            indices: (b, h, w) the codes of the images.
            residual: (b, c, h, w) z - z_q.
            text: (b, l, e) caption embeddings.
            text_mask: (b, l).
            randomness: what `sample_randomness` made of these samples.
            loss: weights and options.
            share: b over the samples of the whole batch; parts add up to its losses.
            weight_sum: `mask_weights(...).sum()` of the whole batch; None: this is the whole.
        """
        text = self.generator.drop_text(text, randomness.drop)
        context = self.generator.embed_text(text, text_mask)
        mask = rearrange(randomness.mask, "b (h w) -> b h w", h=indices.shape[1])
        hidden = self.generator.encode(indices.masked_fill(mask, self.generator.mask_id), context)

        weights = mask_weights(randomness.mask, loss)
        # Logits only where they count: with no weight on visible positions, that is all of them.
        rows = weights > 0
        logits = self.generator.predict(hidden[rows]).float()
        targets, weights = rearrange(indices, "b h w -> b (h w)")[rows], weights[rows]
        weight_sum = weights.sum() if weight_sum is None else weight_sum
        losses = F.cross_entropy(
            logits, targets, label_smoothing=loss.label_smoothing, reduction="none"
        )
        cross_entropy = (losses * weights).sum() / weight_sum
        by_ratio = _by_ratio(
            randomness.mask, rows, losses.detach(), logits.argmax(dim=1) == targets
        )
        accuracy = by_ratio[:, 1].sum() / by_ratio[:, 2].sum() * share

        diffusion = cross_entropy.new_zeros(())
        if self.head is not None:
            diffusion = share * self.head.loss(
                rearrange(residual, "b c h w -> b (h w) c"),
                hidden.detach() if loss.detach else hidden,
                t=rearrange(randomness.t, "m b n -> (m b n)"),
                noise=rearrange(randomness.noise, "m b n c -> (m b n) c"),
            )
        total = loss.cross_entropy * cross_entropy + loss.diffusion * diffusion
        return Losses(total, cross_entropy, diffusion, accuracy, by_ratio)


def mask_weights(mask: Tensor, loss: LossConfig) -> Tensor:
    """The weight (b, n) of each position in the cross-entropy: 1 where it was masked."""
    return torch.where(mask, 1.0, loss.unmasked_weight)


def _by_ratio(mask: Tensor, rows: Tensor, losses: Tensor, right: Tensor) -> Tensor:
    """`Losses.by_ratio` of mask (b, n); losses and right are those of the positions in rows."""
    quarters = (mask.float().mean(dim=1) * RATIO_BINS).ceil().long() - 1
    masked = mask[rows]
    member = F.one_hot(repeat(quarters, "b -> b n", n=mask.shape[1])[rows], RATIO_BINS)[masked]
    values = torch.stack([losses, right.float(), torch.ones_like(losses)], dim=1)[masked]
    # Not a matrix product, which autocast would round to bf16.
    return (rearrange(member, "p r -> p r 1") * rearrange(values, "p v -> p 1 v")).sum(dim=0)

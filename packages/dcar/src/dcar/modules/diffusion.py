"""Gaussian diffusion over vectors: cosine schedule, epsilon prediction, learned-range variance.

Equations are those of DDPM (Ho et al. 2020) and Improved DDPM (Nichol & Dhariwal 2021); the paper
takes MAR's diffusion loss (section 3.2, its reference 35) and MAR takes these. No network is here:
a network's output is 2c wide, epsilon and the variance value v. Tables are fp64 on the CPU. How to
sample is `dcar.modules.solvers`.

Shapes: x (p, c) with p rows (positions of all images), t (p,) int64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

TRAIN_STEPS = 1000
MAX_BETA = 0.999


class Terms(NamedTuple):
    """The hybrid loss of each row (p,): squared error of epsilon, and the variational bound."""

    mse: Tensor
    vb: Tensor


def cosine_alphas(steps: int = TRAIN_STEPS) -> Tensor:
    """The cumulative signal share of Improved DDPM's cosine schedule, (steps,) fp64."""

    def signal(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - signal((i + 1) / steps) / signal(i / steps), MAX_BETA) for i in range(steps)]
    return (1 - torch.tensor(betas, dtype=torch.float64, device="cpu")).cumprod(0)


def respaced_timesteps(num_steps: int) -> Tensor:
    """The `num_steps` timesteps of a shorter chain, evenly from 0 to the last, (num_steps,) int64.

    One step starts from the last timestep alone.

    Raises:
        ValueError: fewer than 1 or more than 1000 steps.
    """
    if not 1 <= num_steps <= TRAIN_STEPS:
        raise ValueError(f"num_diffusion_steps {num_steps} is not in 1..{TRAIN_STEPS}")
    if num_steps == 1:
        return torch.tensor([TRAIN_STEPS - 1], device="cpu")
    stride = (TRAIN_STEPS - 1) / (num_steps - 1)
    return torch.tensor([round(i * stride) for i in range(num_steps)], device="cpu")


class GaussianDiffusion:
    """The tables of a chain, the full one of 1000 steps or a shorter one, and what follows.

    A step t is a row's own, (p,), or one number for all rows.
    """

    def __init__(self, timesteps: Tensor | None = None) -> None:
        self.timesteps = respaced_timesteps(TRAIN_STEPS) if timesteps is None else timesteps
        """The training timestep of each step of this chain: what the network is told."""
        self.alphas_cumprod = cosine_alphas()[self.timesteps]
        start = torch.ones(1, dtype=torch.float64, device="cpu")
        previous = torch.cat([start, self.alphas_cumprod[:-1]])
        self.betas = 1 - self.alphas_cumprod / previous
        variance = self.betas * (1 - previous) / (1 - self.alphas_cumprod)
        # The first posterior variance is 0; its logarithm takes the second's value.
        first = variance[1:2] if len(variance) > 1 else self.betas[:1]
        self.posterior_log_variance = torch.cat([first, variance[1:]]).log()
        self.posterior_mean_x0 = self.betas * previous.sqrt() / (1 - self.alphas_cumprod)
        self.posterior_mean_xt = (
            (1 - previous) * (1 - self.betas).sqrt() / (1 - self.alphas_cumprod)
        )

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t: `x0` after t + 1 steps of noise."""
        signal = self.alphas_cumprod
        return _at(signal.sqrt(), t, x0) * x0 + _at((1 - signal).sqrt(), t, x0) * noise

    def terms(self, output: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> Terms:
        """The two loss terms of a network's `output` (p, 2c) for x_t.

        The bound trains the variance alone: epsilon is detached in it (Improved DDPM).
        """
        epsilon, v = output.chunk(2, dim=1)
        mse = (epsilon - noise).square().mean(dim=1)
        true_mean = self.posterior_mean(x0, x_t, t)
        true_log_variance = _at(self.posterior_log_variance, t, x_t)
        denoised = self.denoised(epsilon.detach(), x_t, t)
        mean, log_variance = self.posterior_mean(denoised, x_t, t), self.log_variance(v, t)
        divergence = _gaussian_kl(true_mean, true_log_variance, mean, log_variance)
        likelihood = -_discretised_log_likelihood(x0, mean, 0.5 * log_variance)
        vb = torch.where(t == 0, likelihood.mean(dim=1), divergence.mean(dim=1)) / math.log(2.0)
        return Terms(mse, vb)

    def denoised(self, epsilon: Tensor, x_t: Tensor, t: Tensor | int) -> Tensor:
        """The x0 (p, c) that a predicted `epsilon` (p, c) means."""
        signal = self.alphas_cumprod
        return _at(signal.rsqrt(), t, x_t) * x_t - _at((1 / signal - 1).sqrt(), t, x_t) * epsilon

    def posterior_mean(self, x0: Tensor, x_t: Tensor, t: Tensor | int) -> Tensor:
        """The mean (p, c) of the step before, given x0 and x_t (DDPM, equation 7)."""
        return _at(self.posterior_mean_x0, t, x_t) * x0 + _at(self.posterior_mean_xt, t, x_t) * x_t

    def log_variance(self, v: Tensor, t: Tensor | int) -> Tensor:
        """From v = -1 to 1: from the posterior's log variance to the log of beta."""
        share = (v + 1) / 2
        smallest, largest = _at(self.posterior_log_variance, t, v), _at(self.betas.log(), t, v)
        return share * largest + (1 - share) * smallest


def _at(table: Tensor, t: Tensor | int, like: Tensor) -> Tensor:
    """The entries of a table, of `like`'s type: a (p, 1) column of its device, or one number."""
    # Rounded before it is moved: not every device has fp64.
    table = table.to(like.dtype)
    if isinstance(t, int):
        return table[t]  # a number of the CPU enters any kernel: nothing is copied and waited for
    return rearrange(table.to(like.device)[t], "p -> p 1")


def _gaussian_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    """KL divergence of two diagonal Gaussians, in nats."""
    ratio = log_var1 - log_var2
    return 0.5 * (-1 - ratio + ratio.exp() + (mean1 - mean2).square() * (-log_var2).exp())


def _discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log likelihood of x under a Gaussian, in bins 2/255 wide (the decoder term of DDPM)."""

    def cdf(value: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)))

    scale = (-log_scale).exp()
    upper, lower = cdf(scale * (x - mean + 1 / 255)), cdf(scale * (x - mean - 1 / 255))
    inside = torch.where(x > 0.999, 1 - lower, upper - lower)
    return torch.where(x < -0.999, upper, inside).clamp(min=1e-12).log()

"""The residual diffusion head: an MLP that denoises one residual token at a time (section 3.2).

MAR's network (the paper's reference 35): each position is a row of its own, conditioned on the
transformer's hidden state. The target is the residual divided by its measured standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from dcar.config import HeadConfig, Solver
from dcar.modules.diffusion import TRAIN_STEPS, GaussianDiffusion
from dcar.modules.packed import Linear
from dcar.modules.solvers import Group, Network, Rows, solve, solver_timesteps
from dcht.modules import wide

FREQUENCIES = 256


class HeadNoise(NamedTuple):
    """Every variate of a run of the sampler: start (b, n, c), and one (b, n, c) a step."""

    start: Tensor
    steps: Tensor
    """(steps, b, n, c); none for a solver that adds no noise."""


class Budget(NamedTuple):
    """The steps of each position."""

    long: Tensor
    """(b, n) boolean: where all diffusion steps are taken."""
    short_steps: int
    """Steps of the others."""


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: (1 + s) conditional - s unconditional."""
    return (1 + scale) * conditional - scale * unconditional


class ResidualBlock(nn.Module):
    """A gated residual MLP, modulated by the condition.

    In half precision what blocks add to stays in fp32: the chain divides by small numbers.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = wide.LayerNorm(width, eps=1e-6)
        self.fc1 = Linear(width, width)
        self.fc2 = Linear(width, width)
        self.modulation = Linear(width, 3 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(p, width) to (p, width)."""
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        modulated = (self.norm(x) * (1 + scale) + shift).to(self.fc1.weight.dtype)
        return x + gate * self.fc2(F.silu(self.fc1(modulated)))


class DiffusionHead(nn.Module):
    """The head with its training loss and its sampler."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        width, channels = config.width, config.latent_channels
        self.time1 = Linear(FREQUENCIES, width)
        self.time2 = Linear(width, width)
        self.condition = Linear(config.condition_dim, width)
        self.inputs = wide.Linear(channels, width)
        self.blocks = nn.ModuleList([ResidualBlock(width) for _ in range(config.depth)])
        self.modulation = Linear(width, 2 * width)
        self.outputs = wide.Linear(width, 2 * channels)
        self.diffusion = GaussianDiffusion()
        self._initialize()

    @property
    def latent_channels(self) -> int:
        """Channels of the residual."""
        return self.config.latent_channels

    @property
    def solvers(self) -> frozenset[Solver]:
        """The solvers that `sample` takes: all."""
        return frozenset(Solver)

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in (self.time1, self.time2):
            nn.init.normal_(layer.weight, std=0.02)
        # Every block starts as the identity and the output as zero (MAR).
        for block in self.blocks:
            nn.init.zeros_(block.modulation.weight)  # type: ignore[union-attr]
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.outputs.weight)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Epsilon and variance value (p, 2c) of noisy rows x (p, c).

        Args:
            x: (p, c) noisy targets, of unit scale.
            t: (p,) training timesteps in 0..999.
            condition: (p, d) hidden states of the transformer.
        """
        return self.denoise(x, self.embed_time(t) + self.embed_condition(condition))

    def embed_time(self, t: Tensor) -> Tensor:
        """The embedding (p, width) of timesteps (p,)."""
        features = timestep_features(t).to(self.time1.weight.dtype)
        return self.time2(F.silu(self.time1(features)))

    def embed_condition(self, condition: Tensor) -> Tensor:
        """The embedding (p, width) of conditions (p, d)."""
        return self.condition(condition.to(self.condition.weight.dtype))

    def denoise(self, x: Tensor, embedding: Tensor) -> Tensor:
        """As `forward`, for the sum (p, width) of both embeddings."""
        modulator = F.silu(embedding)
        x = self.inputs(x.to(self.inputs.weight.dtype))
        for block in self.blocks:
            x = block(x, modulator)
        shift, scale = self.modulation(modulator).chunk(2, dim=-1)
        x = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return self.outputs(x)

    def loss(
        self,
        target: Tensor,
        condition: Tensor,
        *,
        generator: torch.Generator | None = None,
        t: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The mean hybrid diffusion loss over all positions: squared error plus variational bound.

        Args:
            target: (b, n, c) residuals, as the tokenizer gives them.
            condition: (b, n, d) hidden states.
            generator: samples what is not given, on the CPU.
            t: (p,) timesteps of the p = batch_mul b n rows, copy after copy of all positions.
            noise: (p, c) standard normal.

        Returns:
            A scalar.
        """
        copies = self.config.batch_mul
        target = _widened(target) / self.config.residual_std
        x0 = repeat(target, "b n c -> (m b n) c", m=copies)
        condition = repeat(condition, "b n d -> (m b n) d", m=copies)
        if t is None:
            t = torch.randint(TRAIN_STEPS, (len(x0),), generator=generator).to(x0.device)
        if noise is None:
            noise = torch.randn(x0.shape, generator=generator).to(x0)
        x_t = self.diffusion.add_noise(x0, t, noise)
        # The loss is fp32 whatever the network runs in: the bound spans many orders of magnitude.
        terms = self.diffusion.terms(self(x_t, t, condition).float(), x0, x_t, t, noise)
        return (terms.mse + terms.vb).mean()

    def sample(
        self,
        condition: Tensor,
        num_steps: int = 20,
        cfg_scale: float = 0.0,
        generator: torch.Generator | None = None,
        *,
        noise: HeadNoise | None = None,
        solver: Solver = Solver.ddpm,
        temperature: float = 1.0,
        budget: Budget | None = None,
        on_step: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """Draw the residual of every position.

        Args:
            condition: (b, n, d) hidden states; with guidance (2b, n, d), the conditional ones and
                then the unconditional ones. Leading axes (p, d) work too.
            num_steps: timesteps at which the network is asked (20, appendix A.2).
            cfg_scale: s in (1 + s) conditional - s unconditional on epsilon; 0 is off.
            generator: samples the noise, on the CPU, when `noise` is not given.
            noise: recorded variates.
            solver: how a step is taken. The default is the reference.
            temperature: factor of the noise in each step of a solver that adds some.
            budget: positions that take fewer steps; None: all take `num_steps`.
            on_step: called with x and the denoised x0 (p, c) of a step, in units of residual_std.

        Returns:
            (b, n, c) residuals, scaled as the tokenizer's; fp32 also in half precision.

        Raises:
            ValueError: guidance with an odd number of conditions.
        """
        if cfg_scale and len(condition) % 2:
            raise ValueError(
                f"guidance needs conditional then unconditional rows; got {len(condition)} of them"
            )
        guided = condition.chunk(2)[0] if cfg_scale else condition
        shape = (*guided.shape[:-1], self.config.latent_channels)
        if noise is None:
            steps = num_steps if solver.adds_noise else 0
            noise = HeadNoise(
                torch.randn(shape, generator=generator),
                torch.randn((steps, *shape), generator=generator),
            )
        # The network alone runs in its precision: what a chain adds up stays in fp32.
        noise = HeadNoise(*(variates.to(_widened(condition)) for variates in noise))
        groups = _groups(solver, num_steps, budget)
        timesteps = torch.cat([group.timesteps for group in groups]).unique()
        x = solve(
            self._network(condition, timesteps, cfg_scale),
            rearrange(noise.start, "... c -> (...) c"),
            rearrange(noise.steps, "s ... c -> s (...) c"),
            groups=groups,
            solver=solver,
            clip=self.config.clip,
            temperature=temperature,
            on_step=on_step,
        )
        return x.reshape(shape) * self.config.residual_std

    def _network(self, condition: Tensor, timesteps: Tensor, cfg_scale: float) -> Network:
        """The network as the solvers ask it; its embeddings are computed here, once.

        Those of the conditions are the same in every step, those of a timestep in every row.
        """
        times = self.embed_time(timesteps.to(condition.device))
        embedded_times = dict(zip(timesteps.tolist(), times, strict=True))
        embedded = self.embed_condition(rearrange(condition, "... d -> (...) d"))

        def network(x: Tensor, timestep: int, rows: Rows) -> Tensor:
            time = embedded_times[timestep]
            if not cfg_scale:
                return self.denoise(x, embedded[rows] + time).to(x.dtype)
            branches = torch.cat([half[rows] for half in embedded.chunk(2)])
            outputs = self.denoise(torch.cat([x, x]), branches + time).to(x.dtype)
            cond, uncond = outputs.chunk(2)
            c = self.config.latent_channels
            epsilon = guide(cond[:, :c], uncond[:, :c], cfg_scale)
            # The variance is not guided: it is the conditional one (MAR).
            return torch.cat([epsilon, cond[:, c:]], dim=1)

        return network


def _widened(x: Tensor) -> Tensor:
    """Half precision as fp32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _groups(solver: Solver, num_steps: int, budget: Budget | None) -> list[Group]:
    """Rows by how many timesteps they take, spaced as the solver has it; one group where all take
    the same.
    """
    timesteps = solver_timesteps(solver, num_steps)
    if budget is None or budget.short_steps == num_steps or budget.long.all():
        return [Group(slice(None), timesteps)]
    short = solver_timesteps(solver, budget.short_steps)
    if not budget.long.any():
        return [Group(slice(None), short)]
    long = rearrange(budget.long, "b n -> (b n)")
    return [Group(long.nonzero()[:, 0], timesteps), Group((~long).nonzero()[:, 0], short)]


def timestep_features(t: Tensor) -> Tensor:
    """Sinusoidal features (p, 256) of timesteps: cosines, then sines."""
    half = FREQUENCIES // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
    angles = rearrange(t.float(), "p -> p 1") * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)

"""What the sampler needs of a transformer and of a residual head; `docs/extending.md` has examples.

Shapes: b images, h w grid, n = h w, k codes, d width, c latent channels, l text, e its width.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import Tensor

from dcar.config import Solver
from dcar.modules.diffusion_head import Budget, HeadNoise

Context = TypeVar("Context")
"""What a transformer makes of the text; the sampler only hands it back."""


class MaskedModel(Protocol[Context]):
    """A transformer that predicts hidden indices; `dcar.Generator` is one."""

    @property
    def mask_id(self) -> int:
        """k, the number of codes: the index of what is hidden."""
        ...

    def drop_text(self, text: Tensor, drop: Tensor) -> Tensor:
        """Text (b, l, e), the null caption in its place where `drop` (b,) is true."""
        ...

    def embed_text(self, text: Tensor, text_mask: Tensor) -> Context:
        """The context of text (b, l, e) with its mask (b, l), computed once for all steps."""
        ...

    def first_rows(self, context: Context, count: int) -> Context:
        """The context of the first `count` images."""
        ...

    def encode(self, indices: Tensor, context: Context) -> Tensor:
        """Hidden states (b, n, d) of indices (b, h, w) under a context of b images."""
        ...

    def predict(self, hidden: Tensor) -> Tensor:
        """Logits (..., k) of hidden states (..., d)."""
        ...


class ResidualHead(Protocol):
    """A model of the residual of each position, given its hidden state."""

    @property
    def latent_channels(self) -> int:
        """C."""
        ...

    @property
    def solvers(self) -> frozenset[Solver]:
        """The solvers that `sample` takes; others are refused, so that a record is true."""
        ...

    def loss(self, target: Tensor, condition: Tensor, *, t: Tensor, noise: Tensor) -> Tensor:
        """The mean loss, a scalar.

        Args:
            target: (b, n, c) residuals.
            condition: (b, n, d) hidden states.
            t: (m b n,) uniform in 0 .. 999, the m of all positions one after the other.
            noise: (m b n, c) standard normal.
        """
        ...

    def sample(
        self,
        condition: Tensor,
        num_steps: int,
        cfg_scale: float,
        *,
        noise: HeadNoise,
        solver: Solver,
        temperature: float,
        budget: Budget | None,
    ) -> Tensor:
        """Residuals (b, n, c) of the tokenizer's scale.

        Args:
            condition: (b, n, d) hidden states; with guidance (2b, n, d), conditional first.
            num_steps: evaluations of the network.
            cfg_scale: s in (1 + s) conditional - s unconditional; 0 is off.
            noise: all that is random.
            solver: one of `solvers`.
            temperature: factor of the noise in each step of a solver that adds some.
            budget: positions that take fewer steps; None: all take `num_steps`.
        """
        ...

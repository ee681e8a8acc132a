"""The condition of a model, made of a prompt: what the pipeline needs of a text encoder.

`TextEncoder` reads texts, `ClassEncoder` the names of classes.

Shapes: token ids and mask (b, l), embeddings (b, l, e).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self, TypeAlias

from torch import Tensor, nn

from dcar.modules.classes import ClassEncoder
from dcar.modules.text import TextEncoder, TextTokens

Encoder: TypeAlias = TextEncoder | ClassEncoder
"""Those that checkpoints hold and `dcar-train` trains."""


class Condition(Protocol):
    """Makes of prompts what a transformer attends to; a `torch.nn.Module`."""

    @property
    def length(self) -> int:
        """L, how many tokens it reads of a prompt."""
        ...

    def tokenize(self, prompts: Sequence[str]) -> TextTokens:
        """Token ids and mask (b, l) of prompts.

        Raises:
            UsageError: a prompt that means nothing to it.
        """
        ...

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (b, l, e) of token ids and mask (b, l)."""
        ...

    def left_out(self, prompt: str) -> str:
        """The end of a prompt that it does not read; empty: nothing."""
        ...

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of a prompt that it reads and does not know."""
        ...

    def known_words(self) -> list[str] | None:
        """All that it knows; None: it reads any text."""
        ...

    def eval(self) -> Self:
        """As a `torch.nn.Module`, as are the rest."""
        ...

    def to(self, device: Any = None, dtype: Any = None) -> Self:
        """Move it, or cast its weights."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights."""
        ...

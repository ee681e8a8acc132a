"""Classes in place of a text: an embedding each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from dcar.modules.text import TextTokens
from dcht.errors import UsageError

NAMED = 5
"""How many classes a message names before it says how many there are."""


class ClassEncoder(nn.Module):
    """A vector for each class, trained with the generator, which sees it as a text of one token.

    A prompt is the name of a class, or its number.

    Attributes:
        names: of the classes, by number.
    """

    trained = True
    length = 1

    def __init__(self, names: Sequence[str], width: int) -> None:
        super().__init__()
        self.names = list(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self.embedding = nn.Embedding(len(self.names), width)

    def number(self, prompt: str) -> int:
        """The number of the class that a prompt names.

        Where names are numbers themselves (of a data set that has no others), they are what counts.

        Raises:
            UsageError: there is no such class.
        """
        prompt = prompt.strip()
        if prompt in self._numbers:
            return self._numbers[prompt]
        numbered = not any(name.isdecimal() for name in self.names)
        if numbered and prompt.isdecimal() and int(prompt) < len(self.names):
            return int(prompt)
        near = get_close_matches(prompt, self.names, 1) or self.names[:NAMED]
        numbers = f", or a number below {len(self.names)}" if numbered else ""
        raise UsageError(
            f"{prompt!r} is none of this checkpoint's {len(self.names)} classes; "
            f"try {', '.join(map(repr, near))}{numbers}"
        )

    def tokenize(self, prompts: Sequence[str]) -> TextTokens:
        """The numbers (b, 1) of the prompts' classes.

        Raises:
            UsageError: a prompt is no class.
        """
        ids = torch.tensor([[self.number(prompt)] for prompt in prompts])
        return TextTokens(ids, torch.ones_like(ids, dtype=torch.bool))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (b, 1, e) of numbers (b, 1)."""
        return self.embedding(ids)

    @torch.no_grad()
    def learn(self, names: Iterable[str]) -> list[str]:
        """Add classes, each with a random vector; those that are there stay as they are.

        Returns:
            The names that were new.
        """
        new = [name for name in names if name not in self._numbers]
        if new:
            old = self.embedding.weight
            rows = torch.randn(len(new), old.shape[1]).to(old)
            self.embedding = nn.Embedding.from_pretrained(torch.cat([old, rows]), freeze=False)
            self.names += new
            self._numbers = {name: number for number, name in enumerate(self.names)}
        return new

    def left_out(self, prompt: str) -> str:
        """Nothing: a class is read whole."""
        return ""

    def unknown_words(self, prompt: str) -> list[str]:
        """None: a prompt that is no class is refused."""
        return []

    def known_words(self) -> list[str]:
        """The classes, by number."""
        return list(self.names)


def sort_classes(names: Iterable[str]) -> list[str]:
    """Names, each once: those that are numbers by number, then the others in alphabetical order."""
    return sorted(set(names), key=lambda n: (0, int(n), n) if n.isdecimal() else (1, 0, n))

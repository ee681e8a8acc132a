"""Prompts to text embeddings: a frozen T5, or a small T5 trained jointly with the generator.

The frozen one is transformers' model, which `dcar.weights.text` loads; the small one is
`dcar.modules.t5`, which reads words (`dcar.modules.words`).

Shapes: token ids and mask (b, l), embeddings (b, l, e).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import tokenizers
import torch
from tokenizers import models
from torch import Tensor, nn

from dcar.config import GeneratorConfig, TextConfig
from dcar.modules.t5 import T5Encoder
from dcar.modules.words import END, PAD, UNKNOWN, by_frequency, count_words, visible
from dcar.modules.words import word_tokenizer as word_tokenizer

if TYPE_CHECKING:
    from transformers.models.t5.modeling_t5 import T5Stack


class TextTokens(NamedTuple):
    """Token ids (b, l) int64, padded, and mask (b, l) boolean, True at real tokens."""

    ids: Tensor
    mask: Tensor


class TextEncoder(nn.Module):
    """A T5 encoder with its tokenizer.

    Attributes:
        trained: whether it is trained jointly with the generator (and stored in its checkpoint).
    """

    def __init__(
        self,
        encoder: T5Stack | T5Encoder,
        tokenizer: tokenizers.Tokenizer,
        *,
        length: int,
        sees_mask: bool,
        trained: bool,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.length = length
        self.sees_mask = sees_mask
        self.trained = trained
        if not trained:
            self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> TextEncoder:
        """Training mode for an encoder that trains; a frozen one stays without dropout."""
        return super().train(mode and self.trained)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TextEncoder:
        """Move or cast, but for T5's `wo` in float16: its outputs overflow there.

        transformers keeps these weights in fp32 when it loads in float16, not when a loaded model
        is cast (huggingface/transformers#9295).
        """
        kept = {name: p.data for name, p in self.named_parameters() if ".wo." in name}
        super()._apply(fn, recurse)
        for name, parameter in self.named_parameters():
            if name in kept and parameter.dtype == torch.float16:
                parameter.data = kept[name].to(parameter.device, torch.float32)
        return self

    @classmethod
    def joint(
        cls, config: TextConfig, generator: GeneratorConfig, tokenizer: tokenizers.Tokenizer
    ) -> TextEncoder:
        """A small, randomly initialized T5 encoder for a word-level tokenizer."""
        assert config.joint is not None
        encoder = T5Encoder(
            vocabulary=tokenizer.get_vocab_size(),
            width=generator.text_dim,
            depth=config.joint.depth,
            num_heads=config.joint.num_heads,
            positions=config.joint.positions,
        )
        return cls(
            encoder,
            tokenizer,
            length=generator.text_length,
            sees_mask=config.sees_mask,
            trained=True,
        )

    def tokenize(self, prompts: Sequence[str]) -> TextTokens:
        """Pad and cut prompts to the encoder's length; the end token is always there.

        Characters that nobody sees (`dcar.modules.words.visible`) are left out first.
        """
        self.tokenizer.enable_truncation(self.length)
        self.tokenizer.enable_padding(
            length=self.length, pad_id=self.tokenizer.token_to_id(PAD), pad_token=PAD
        )
        tokens = self.tokenizer.encode_batch([visible(prompt) for prompt in prompts])
        ids, mask = ([row.ids for row in tokens], [row.attention_mask for row in tokens])
        return TextTokens(torch.tensor(ids), torch.tensor(mask).bool())

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The last hidden states (b, l, e) of token ids and mask (b, l).

        In the precision of the weights, also inside autocast: T5 overflows float16.
        """
        seen = mask.long() if self.sees_mask else None
        with (
            torch.set_grad_enabled(self.trained and torch.is_grad_enabled()),
            torch.autocast(ids.device.type, enabled=False),
        ):
            return self.encoder(input_ids=ids, attention_mask=seen).last_hidden_state

    @torch.no_grad()
    def learn_words(self, captions: Iterable[str], vocabulary: int) -> list[str]:
        """Give a joint encoder embeddings for the captions' words that it does not know.

        What it says of known words stays exactly the same. A new word begins as a random vector of
        the known ones' mean and spread.

        Args:
            captions: in any order.
            vocabulary: most words in all; the most frequent of the new ones are taken.

        Returns:
            The new words, the most frequent first.
        """
        known = self.tokenizer.get_vocab(with_added_tokens=True)
        counts = count_words(captions, self.tokenizer)
        ranked = [word for word in by_frequency(counts) if word not in known]
        new = ranked[: max(0, vocabulary - len(known))]
        if new:
            numbers = {word: len(known) + i for i, word in enumerate(new)}
            self.tokenizer.model = models.WordLevel(known | numbers, UNKNOWN)
            old = self.encoder.embed_tokens.weight
            rows = old.mean(dim=0) + old.std(dim=0) * torch.randn(len(new), old.shape[1])
            self.encoder.embed_tokens = nn.Embedding.from_pretrained(
                torch.cat([old, rows.to(old)]), freeze=False
            )
        return new

    def left_out(self, prompt: str) -> str:
        """The end of a prompt that `tokenize` cuts off, as it was written; empty: nothing."""
        prompt = visible(prompt)
        starts = [start for _, (start, _) in self._tokens(prompt)]
        kept = self.length - self.tokenizer.num_special_tokens_to_add(is_pair=False)
        return prompt[starts[kept] :].strip() if len(starts) > kept else ""

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of a prompt that the tokenizer has no token for, as they were written.

        Marks that the tokenizer writes itself (`</s>`) are no words, either.
        """
        prompt = visible(prompt)
        unknown = {self.tokenizer.token_to_id(mark) for mark in (PAD, END, UNKNOWN)}
        spans = [span for token, span in self._tokens(prompt) if token in unknown]
        return list(dict.fromkeys(prompt[start:stop] for start, stop in spans))

    def _tokens(self, prompt: str) -> list[tuple[int, tuple[int, int]]]:
        """All tokens of a prompt, neither cut nor padded, and where each is in it."""
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        tokens = self.tokenizer.encode(prompt, add_special_tokens=False)
        return list(zip(tokens.ids, tokens.offsets, strict=True))

    def known_words(self) -> list[str] | None:
        """The words of the training captions, sorted; None for a T5, which reads any text."""
        if not self.trained:
            return None
        return sorted(self.tokenizer.get_vocab().keys() - {PAD, END, UNKNOWN})

    def sha256(self) -> str:
        """A hash of all that embeddings depend on: weights, tokenizer, length and masking."""
        digest = hashlib.sha256(f"{self.length} {self.sees_mask} ".encode())
        digest.update(self.tokenizer_json().encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(value.shape)} ".encode())
            digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
        return digest.hexdigest()

    def tokenizer_json(self) -> str:
        """The tokenizer as the content of a `tokenizer.json`, the same before and after use."""
        plain = tokenizers.Tokenizer.from_str(self.tokenizer.to_str())
        plain.no_padding()
        plain.no_truncation()
        return plain.to_str(pretty=True)

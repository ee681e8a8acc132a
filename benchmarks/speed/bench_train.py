"""A training step of the small model on a CPU: bf16 autocast against fp32.

Only where the CPU has instructions for it; elsewhere bf16 is slower.
"""

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcar.config import PRESETS, LossConfig
from dcar.model import DCAR
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.train.learner import Learner

BATCH, GRID = 16, (8, 8)
Versus = Callable[[Callable[[], object], Callable[[], object]], None]


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="no AVX512-BF16 on this CPU")
def bench_bf16(versus: Versus) -> None:
    """Forward and backward, as `dcar.train.trainer` runs them with bf16=true and false."""
    config = PRESETS["small"]
    assert config.text.joint is not None
    words = word_tokenizer(["a photo of a red apple"], config.text.joint)
    text = TextEncoder.joint(config.text, config.generator, words)
    learner = Learner(DCAR(config), text).train()
    indices = torch.randint(config.generator.codebook_size, (BATCH, *GRID))
    residual = torch.randn(BATCH, config.head.latent_channels, *GRID)
    tokens = text.tokenize(["a photo of a red apple"] * BATCH)
    randomness = learner.model.sample_randomness(0, range(BATCH), indices[0].numel())

    def gradients() -> None:
        losses = learner(
            indices, residual, tokens.ids, tokens.mask, randomness,
            loss=LossConfig(), share=1.0, weight_sum=randomness.mask.sum(),
        )  # fmt: skip
        losses.total.backward()

    def in_bf16() -> None:
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            gradients()

    versus(in_bf16, gradients)

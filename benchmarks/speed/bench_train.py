"""A training step of the small model on a CPU: bf16 autocast against fp32, and PixArt's blocks.

bf16 only where the CPU has instructions for it; elsewhere it is slower.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel
from einops import rearrange
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcar.config import PRESETS, LossConfig
from dcar.model import DCAR
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.modules.transformer import Generator
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


def bench_pixart(versus: Versus) -> None:
    """Forward and backward over 64 tokens an image: masked codes, and PixArt's noise of patches.

    Depth, widths, heads and text are the same. Ours has no adaptive norms, and logits over the
    codes; the residual head is in neither.
    """
    config = PRESETS["small"].generator
    ours, side = Generator(config).train(), GRID[0]
    theirs = PixArtTransformer2DModel(
        num_layers=config.depth, num_attention_heads=config.num_heads,
        attention_head_dim=config.width // config.num_heads, cross_attention_dim=config.width,
        caption_channels=config.text_dim, in_channels=4, out_channels=8, patch_size=2,
        sample_size=2 * side, use_additional_conditions=False,
    ).train()  # fmt: skip
    text = torch.randn(BATCH, config.text_length, config.text_dim)
    mask = torch.ones(text.shape[:2], dtype=torch.long)
    indices = torch.randint(config.codebook_size, (BATCH, *GRID))
    noisy, noise = torch.randn(2, BATCH, 4, 2 * side, 2 * side)
    conditions = {"resolution": None, "aspect_ratio": None}

    def masked_codes() -> None:
        logits = ours(torch.full_like(indices, ours.mask_id), text, mask).logits
        F.cross_entropy(rearrange(logits, "b n k -> (b n) k"), indices.flatten()).backward()

    def noise_of_patches() -> None:
        predicted = theirs(
            noisy, encoder_hidden_states=text, encoder_attention_mask=mask,
            timestep=torch.randint(1000, (BATCH,)), added_cond_kwargs=conditions,
        ).sample  # fmt: skip
        F.mse_loss(predicted.chunk(2, dim=1)[0], noise).backward()

    versus(masked_codes, noise_of_patches)

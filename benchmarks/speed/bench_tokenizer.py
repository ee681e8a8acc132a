"""Encoding and decoding: our autoencoder beside diffusers' AutoencoderDC with the same weights.

The layout is DC-AE's in-1.0; the default run divides its widths by 4 so that it takes seconds.
"""

from collections.abc import Callable

import pytest
import torch

from dcht import Tokenizer

Versus = Callable[[Callable[[], object], Callable[[], object]], None]
WIDTHS = [pytest.param(4, id="quarter"), pytest.param(1, id="full", marks=pytest.mark.slow)]


@pytest.mark.parametrize("direction", ["encode", "decode"])
@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("width", WIDTHS)
def bench_autoencoder(
    versus: Versus, autoencoders: Callable, width: int, size: int, direction: str
) -> None:
    """One image, one way."""
    ours, theirs = autoencoders(width)
    images = (1, 3, size, size)
    latents = (1, ours.config.latent_channels, size // 32, size // 32)
    seeded = torch.Generator().manual_seed(0)
    x = torch.rand(images if direction == "encode" else latents, generator=seeded) * 2 - 1
    with torch.inference_mode():
        versus(lambda: getattr(ours, direction)(x), lambda: getattr(theirs, direction)(x))


@pytest.mark.parametrize("direction", ["encode", "decode"])
def bench_tiles(versus: Versus, direction: str) -> None:
    """What margins cost: a 1024 px image by tiles of 512, against the whole."""
    tokenizer = Tokenizer.from_pretrained()
    seeded = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 1024, 1024, generator=seeded) * 2 - 1
    with torch.inference_mode():
        x = images if direction == "encode" else tokenizer.encode(images)
        tiled = getattr(tokenizer, f"{direction}_tiled")
        versus(lambda: tiled(x, tile=512), lambda: getattr(tokenizer, direction)(x))

"""The nearest of the paper's 16,384 codes: ours, and vector-quantize-pytorch's by cosine.

Both start from the same latents, as the encoder leaves them, and end with the codes.
"""

from collections.abc import Callable

import pytest
import torch
from einops import rearrange
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from dcht.modules.quantizer import VectorQuantizer

CODES, CHANNELS = 16384, 32
Versus = Callable[[Callable[[], object], Callable[[], object]], None]


@pytest.mark.parametrize("side", [8, 32], ids=["256px", "1024px"])
def bench_quantizer(versus: Versus, side: int) -> None:
    """A batch of four images; both find the same codes."""
    torch.manual_seed(0)
    ours = VectorQuantizer(CODES, CHANNELS, commitment_weight=0.25).eval()
    theirs = VectorQuantize(dim=CHANNELS, codebook_size=CODES, use_cosine_sim=True).eval()
    z = torch.randn(4, CHANNELS, side, side)
    rows = rearrange(z, "b c h w -> b (h w) c").contiguous()

    def quantize() -> Tensor:
        return ours(ours.normalize(z)).indices

    with torch.inference_mode():
        codes = theirs.codebook
        ours.codebook.copy_(codes)
        same = rearrange(quantize(), "b h w -> b (h w)") == theirs(rows)[1]
        assert same.float().mean() > 0.999  # of a near tie either may be taken
        versus(quantize, lambda: theirs(rows))

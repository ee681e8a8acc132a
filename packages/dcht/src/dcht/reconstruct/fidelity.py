"""Whether a tokenizer can give images back as well as its card says: a word before they are used.

What it cannot reconstruct, no generator will show, and no edit will keep.
"""

from __future__ import annotations

import torch
from einops import reduce
from torch import Tensor

from dcht.images import scale, to_bytes, to_pil
from dcht.tokenizer import Tokenizer

MARGIN = 2.0
"""dB below its card's number that images may come back: half of any world is below the mean."""


@torch.inference_mode()
def mean_psnr(tokenizer: Tokenizer, images: Tensor) -> float:
    """PSNR in dB of images (b, 3, H, W) in [-1, 1] against what comes back, in 8 bits; the mean."""
    device = next(tokenizer.parameters()).device
    back = [to_bytes(to_pil(pixels)) for pixels in tokenizer.reconstruct(images.to(device))]
    errors = (scale(torch.stack(back)) - images.cpu()).square()
    return float(
        (10 * (4 / reduce(errors, "b c h w -> b", "mean").clamp(min=1e-12)).log10()).mean()
    )


def infidelity(tokenizer: Tokenizer, psnr: float | None) -> str:
    """A sentence where images come back worse than the card promises; nothing where not."""
    promised = tokenizer.card_psnr
    if promised is None or psnr is None or psnr >= promised - MARGIN:
        return ""
    return (
        f"the tokenizer gives this back at {psnr:.1f} dB; the images it is made for come back at "
        f"{promised:.1f} dB (its card): look with dcht reconstruct, and see docs/finetune.md"
    )

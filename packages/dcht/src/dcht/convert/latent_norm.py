"""A continuous autoencoder's latents brought to unit length without changing what is decoded.

DC-AE's latents have a typical length s; ours are divided by their own (`Tokenizer.encode`). A
decoder that is handed u = z / |z| sees inputs s times too small, unless s is folded into its first
layer: new.decode(u) = old.decode(s u), for every u. # not in paper.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from einops import rearrange, repeat
from torch import Tensor

from dcht.modules.autoencoder import Decoder, Encoder

LATENT_NORM = 17.7
"""Typical length of a latent of DC-AE in-1.0: sqrt(32) / 0.3189, its published scaling factor."""


@torch.no_grad()
def fold_latent_norm(decoder: Decoder, norm: float) -> None:
    """Change the decoder's first layer in place, so that it decodes u as it decoded `norm` u.

    That layer is W u + D u + bias with a 3x3 convolution W and the parameter-free duplicating
    shortcut D, which cannot be scaled; so W becomes norm W + (norm - 1) D, D at the center tap.
    """
    weight = decoder.input.weight  # (width, c, 3, 3)
    width, channels = weight.shape[:2]
    identity = torch.eye(channels, dtype=weight.dtype, device=weight.device)
    duplicate = repeat(identity, "o i -> (o copies) i", copies=width // channels)
    folded = norm * weight
    folded[:, :, 1, 1] += (norm - 1) * duplicate
    weight.data = folded  # not in place: the tensor may be the one that was loaded


@torch.no_grad()
def mean_latent_norm(encoder: Encoder, images: Iterable[Tensor]) -> float:
    """Mean length of the encoder's latents over all positions of batches (b, 3, H, W) in [-1, 1].

    Raises:
        ValueError: there are no images.
    """
    lengths = [rearrange(encoder(batch).norm(dim=1), "b h w -> (b h w)") for batch in images]
    if not lengths:
        raise ValueError("the mean latent norm needs at least one image")
    return torch.cat(lengths).double().mean().item()

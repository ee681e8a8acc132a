"""DC-HT: the hybrid tokenizer of section 3.1.

Continuous path: decode(encode(x)). Discrete path: decode(quantize(encode(x)).z_q).
What the discrete path loses is the residual z - z_q; decode(z_q + residual) is decode(z).

Shapes: images (b, 3, H, W) in [-1, 1]; z, z_q, residual (b, c, h, w); indices (b, h, w);
H = 32 h, W = 32 w. z is of unit length over c at every position, on both paths.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcht.autoencoder import Decoder, Encoder
from dcht.checkpoint import (
    build_on_meta,
    checkpoint_sha256,
    from_dict,
    load_strict,
    locate,
    read_config,
    read_tensors,
    to_dict,
    write_checkpoint,
)
from dcht.config import TokenizerConfig
from dcht.errors import CheckpointError, UsageError
from dcht.quantizer import Quantized, VectorQuantizer
from dcht.tiling import TILE, decode_tiled, encode_tiled

LATENT_RMS = 3.136
"""RMS of DC-AE's latents (in-1.0: 1 / scaling factor), for which the decoder's input was designed.

Ours are of unit length. A fresh decoder starts with its input layer enlarged by the ratio, or its
first blocks would see next to nothing. # not in paper.
"""
BUNDLED = Path(str(resources.files("dcht"))) / "checkpoints" / "small"


class Latents(NamedTuple):
    """What an image becomes: z is z_q + residual."""

    indices: Tensor
    z_q: Tensor
    residual: Tensor


class Tokenizer(nn.Module):
    """Encoder, quantizer and decoder of one `TokenizerConfig`."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.sha256: str | None = None
        """Hash of the checkpoint this came from or was saved to; None for fresh weights."""
        sizes = {"resample": config.resample, "latent_channels": config.latent_channels}
        self.encoder = Encoder(config.encoder, **sizes)
        self.decoder = Decoder(config.decoder, **sizes)
        self.quantizer = (
            None
            if config.codebook_size is None
            else VectorQuantizer(
                config.codebook_size,
                config.latent_channels,
                commitment_weight=config.commitment_weight,
            )
        )
        if self.quantizer is not None:
            with torch.no_grad():
                self.decoder.input.weight.mul_(LATENT_RMS * config.latent_channels**0.5)

    def require_quantizer(self) -> VectorQuantizer:
        """The quantizer.

        Raises:
            CheckpointError: this tokenizer is a plain continuous autoencoder.
        """
        if self.quantizer is None:
            raise CheckpointError(
                "this tokenizer has no quantizer (codebook_size is None): it is a continuous "
                "autoencoder; train a quantizer with dcht-train, or use encode and decode alone"
            )
        return self.quantizer

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (b, 3, H, W) in [-1, 1] into z (b, c, h, w): Z = Enc(I).

        Raises:
            UsageError: H or W is not a multiple of 32, or there are not three channels.
        """
        self._check_images(images)
        return self._normalise(self.encoder(images))

    def encode_tiled(self, images: Tensor, *, tile: int = TILE) -> Tensor:
        """`encode` in little memory: tile by tile, with the result of the whole (`dcht.tiling`).

        No gradients. Needs eval mode.

        Args:
            images: (b, 3, H, W) in [-1, 1].
            tile: side of a tile in pixels, a multiple of 32.

        Raises:
            UsageError: as `encode`, or a tile that is no multiple of 32.
        """
        self._check_images(images)
        self._check_tile(tile)
        return self._normalise(encode_tiled(self.encoder, images, tile=tile))

    def _normalise(self, z: Tensor) -> Tensor:
        return z if self.quantizer is None else F.normalize(z.float(), dim=1)

    def _check_tile(self, tile: int) -> None:
        factor = self.config.downsampling
        if tile < factor or tile % factor:
            raise UsageError(f"tile {tile} is not a multiple of {factor}; for example {TILE}")

    def _check_images(self, images: Tensor) -> None:
        factor = self.config.downsampling
        if images.ndim != 4 or images.shape[1] != 3:
            raise UsageError(f"images have shape {tuple(images.shape)}; expected (b, 3, H, W)")
        for side in images.shape[-2:]:
            if side == 0 or side % factor:
                nearest = max(factor, round(side / factor) * factor)
                raise UsageError(
                    f"image side {side} is not a multiple of {factor}; the nearest is {nearest}"
                )

    def quantize(self, z: Tensor) -> Quantized:
        """The nearest codes of z (b, c, h, w): Z_q = Quant(Z)."""
        return self.require_quantizer()(z)

    def residual(self, z: Tensor) -> Tensor:
        """What quantization loses: Z_r = Z - Z_q, (b, c, h, w)."""
        return z - self.quantize(z).z_q

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes z_q (b, c, h, w) that indices (b, h, w) name.

        Raises:
            UsageError: an index outside the codebook.
        """
        quantizer = self.require_quantizer()
        size = quantizer.codebook.shape[0]
        if indices.numel():
            low, high = int(indices.min()), int(indices.max())
            if low < 0 or high >= size:
                raise UsageError(
                    f"indices run from {low} to {high}; the codebook has 0 to {size - 1}"
                )
        return quantizer.lookup(indices)

    def decode(self, latent: Tensor) -> Tensor:
        """Decode z, z_q or z_q + residual (b, c, h, w) into images (b, 3, H, W), about [-1, 1]."""
        return self.decoder(latent)

    def decode_tiled(self, latent: Tensor, *, tile: int = TILE) -> Tensor:
        """`decode` in little memory: tile by tile, with the result of the whole (`dcht.tiling`).

        No gradients. Needs eval mode.

        Args:
            latent: (b, c, h, w).
            tile: side of a tile in pixels of the image, a multiple of 32.

        Raises:
            UsageError: a tile that is no multiple of 32.
        """
        self._check_tile(tile)
        return decode_tiled(self.decoder, latent, tile=tile)

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Decode indices (b, h, w) alone, without a residual, into images (b, 3, H, W).

        Raises:
            UsageError: an index outside the codebook.
        """
        return self.decode(self.lookup(indices))

    def tokenize(self, images: Tensor) -> Latents:
        """Images (b, 3, H, W) to indices, z_q and residual."""
        z = self.encode(images)
        indices, z_q = self.quantize(z)
        return Latents(indices, z_q, z - z_q)

    def reconstruct(
        self,
        images: Tensor,
        path: Literal["hybrid", "discrete"] = "hybrid",
        *,
        tile: int | None = None,
    ) -> Tensor:
        """Encode and decode images (b, 3, H, W), by tiles of this side where `tile` is given.

        Path `hybrid` keeps the residual, `discrete` drops it.

        Raises:
            UsageError: an unknown path, or what `encode_tiled` raises.
        """
        if path not in ("hybrid", "discrete"):
            raise UsageError(f"path {path!r} is not known; use hybrid or discrete")
        z = self.encode(images) if tile is None else self.encode_tiled(images, tile=tile)
        latent = z if path == "hybrid" else self.quantize(z).z_q
        return self.decode(latent) if tile is None else self.decode_tiled(latent, tile=tile)

    def set_residual_std(self, value: float) -> None:
        """Record the measured standard deviation of the residual (kept in the checkpoint)."""
        self.config = replace(self.config, residual_std=value)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> str:
        """Write `config.json` and `model.safetensors` and return their hash.

        With `dtype` float16 the file is half as large; what is loaded again is what was rounded.
        """
        self.sha256 = write_checkpoint(folder, to_dict(self.config), self.state_dict(), dtype=dtype)
        return self.sha256

    @classmethod
    def from_pretrained(cls, name: str | Path | None = None) -> Tokenizer:
        """Load a folder, a Hub id, or (None) the tokenizer that ships with the package.

        Returned in eval mode and fp32. Loading is strict and free of pickle.

        Raises:
            CheckpointError: files missing, unknown settings, or keys that do not fit.
        """
        folder = BUNDLED if name is None else locate(name)
        config = from_dict(TokenizerConfig, read_config(folder), str(folder))
        tokenizer = build_on_meta(lambda: cls(config), str(folder))
        load_strict(tokenizer, read_tensors(folder), str(folder))
        tokenizer.sha256 = checkpoint_sha256(folder)
        return tokenizer.eval()

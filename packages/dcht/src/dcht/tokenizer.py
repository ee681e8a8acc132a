"""DC-HT: the hybrid tokenizer of section 3.1.

Continuous path: decode(encode(x)). Discrete path: decode(quantize(encode(x)).z_q).
What the discrete path loses is the residual z - z_q; decode(z_q + residual) is decode(z).

Shapes: images (b, 3, H, W) in [-1, 1]; z, z_q, residual (b, c, h, w); indices (b, h, w);
H = 32 h, W = 32 w. z is as its quantizer has it, on both paths: of unit length over c at every
position with a codebook, between the outermost levels of each channel with FSQ.

Weights may be of any float type (`to(torch.bfloat16)`, `half()`), and so may inputs. z, z_q and
residual are fp32 with a quantizer, which computes in it; images are of the weights' type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from dcht.arguments import Grid, Images, check_range, to_indices, to_latent, to_pixels
from dcht.checkpoint import (
    Origin,
    build_on_meta,
    checkpoint_sha256,
    from_dict,
    load_strict,
    read_config,
    read_tensors,
    to_written,
    write_checkpoint,
)
from dcht.config import TokenizerConfig
from dcht.device import Precision, dtype_of
from dcht.display.codes import code_map
from dcht.display.html import figure
from dcht.errors import CheckpointError, UsageError
from dcht.hub import Access, locate, push, read_card_psnr, tokenizer_card
from dcht.images import grid
from dcht.light import LightDecoder, read_light, remove_light
from dcht.modules.autoencoder import Decoder, Encoder
from dcht.modules.fsq import FiniteScalarQuantizer
from dcht.modules.quantizer import Quantized, Quantizer, VectorQuantizer
from dcht.modules.tiling import TILE, decode_tiled, encode_tiled

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

    def _repr_html_(self) -> str:
        """In a notebook: which code is where, shapes, codes that are used, bytes as stored."""
        maps = [code_map(indices, patch=16) for indices in self.indices[:8].cpu()]
        rows = {name: tuple(tensor.shape) for name, tensor in self._asdict().items()}
        used = self.indices.unique().numel()
        size = 2 * self.indices.numel(), 2 * self.residual.numel()
        return figure(
            grid(maps, columns=len(maps)) if maps else None,
            rows
            | {
                "codes used": f"{used} different ones at {self.indices.numel()} positions",
                "bytes": f"{size[0]:,} of indices (uint16), {size[1]:,} of residual (fp16)",
            },
        )


class Tokenizer(nn.Module):
    """Encoder, quantizer and decoder of one `TokenizerConfig`."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self._origin = Origin(None)
        self.card_psnr: float | None = None
        """PSNR in dB at which its held-out images come back, as its model card has it."""
        self.light: LightDecoder | None = None
        """For previews, if there is one; none of the weights here are its."""
        sizes = {"resample": config.resample, "latent_channels": config.latent_channels}
        self.encoder = Encoder(config.encoder, **sizes)
        self.decoder = Decoder(config.decoder, **sizes)
        self.quantizer = _build_quantizer(config)
        if self.quantizer is not None:
            with torch.no_grad():
                self.decoder.input.weight.mul_(LATENT_RMS * self.quantizer.inverse_rms)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to`, `half` and `cuda` do, to the light decoder too."""
        ours, before = self.sha256 is not None, self.precision
        if self.light is not None:
            self.light.network._apply(fn, recurse)
        super()._apply(fn, recurse)
        if ours:
            self._origin.follow(before, self.precision, self)
        return self

    @property
    def sha256(self) -> str | None:
        """Hash of the checkpoint this came from or was saved to.

        None for fresh weights, and for weights that have changed since.
        """
        return self._origin.sha256(self)

    @sha256.setter
    def sha256(self, value: str | None) -> None:
        self._origin = Origin(value, self)

    def require_quantizer(self) -> Quantizer:
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

    @property
    def precision(self) -> Precision:
        """Of the weights."""
        return Precision.of(self.decoder.input.weight.dtype)

    def forward(self, images: Images) -> Tensor:
        """Images as they come back down the hybrid path: `reconstruct(images)`, (b, 3, H, W)."""
        return self.reconstruct(images)

    def encode(self, images: Images) -> Tensor:
        """Encode images into z (b, c, h, w): Z = Enc(I).

        Args:
            images: a tensor (b, 3, H, W), uint8 in 0..255 or floats in [-1, 1]; or a PIL image, or
                several of one size. Their range is checked, unless a part is in training mode or
                torch compiles: it would have to wait for the device.

        Raises:
            UsageError: H or W is not a multiple of 32, there are not three channels, another type,
                or floats far outside of [-1, 1] (NaN, or beyond 4).
        """
        return self._normalize(self.encoder(self._pixels(images)))

    def encode_tiled(self, images: Images, *, tile: int = TILE) -> Tensor:
        """`encode` in little memory: tile by tile, with the result of the whole (`modules.tiling`).

        No gradients. Needs eval mode.

        Args:
            images: as in `encode`.
            tile: side of a tile in pixels, a multiple of 32.

        Raises:
            UsageError: as `encode`, or a tile that is no multiple of 32.
        """
        self._check_tile(tile)
        return self._normalize(encode_tiled(self.encoder, self._pixels(images), tile=tile))

    def _normalize(self, z: Tensor) -> Tensor:
        return z if self.quantizer is None else self.quantizer.normalize(z)

    def _check_tile(self, tile: int) -> None:
        factor = self.config.downsampling
        if tile < factor or tile % factor:
            raise UsageError(f"tile {tile} is not a multiple of {factor}; for example {TILE}")

    def _pixels(self, images: Images) -> Tensor:
        """Images as the encoder takes them: in [-1, 1], of the weights' type, where they are."""
        pixels = to_pixels(images, factor=self.config.downsampling)
        training = any(part.training for part in (self, self.encoder, self.decoder))
        if pixels is images and not (training or pixels.is_meta or torch.compiler.is_compiling()):
            check_range(pixels)
        return pixels.to(self.encoder.output.weight)

    def quantize(self, z: Tensor) -> Quantized:
        """The nearest codes of z (b, c, h, w): Z_q = Quant(Z)."""
        return self.require_quantizer()(z)

    def residual(self, z: Tensor) -> Tensor:
        """What quantization loses: Z_r = Z - Z_q, (b, c, h, w)."""
        return z - self.quantize(z).z_q

    def lookup(self, indices: Tensor, *, grid: Grid | None = None) -> Tensor:
        """The codes z_q (b, c, h, w) that indices name.

        Args:
            indices: (b, h, w), or (b, n) row by row, of any integer type.
            grid: (h, w) of indices (b, n); None: they are a square.

        Raises:
            UsageError: an index outside the codebook (on a GPU, and in a compiled graph, torch's
                own assertion: nothing waits for the device), no integers, or n that does not fill
                the grid.
        """
        quantizer = self.require_quantizer()
        return quantizer.lookup(to_indices(indices, grid=grid, codebook_size=quantizer.size))

    def decode(self, latent: Tensor, *, grid: Grid | None = None) -> Tensor:
        """Decode z, z_q or z_q + residual into images (b, 3, H, W), about [-1, 1].

        Args:
            latent: (b, c, h, w), or (b, n, c) row by row, of any float type; integers are indices,
                as in `decode_indices`.
            grid: (h, w) of n positions; None: they are a square.

        Raises:
            UsageError: another shape.
        """
        return self.decoder(self._latent(latent, grid))

    def preview(self, latent: Tensor, *, grid: Grid | None = None) -> Tensor:
        """`decode` by the light decoder, where there is one: sooner, and not quite as good."""
        if self.light is None:
            return self.decode(latent, grid=grid)
        return self.light.network(self._latent(latent, grid))

    def _latent(self, latent: Tensor, grid: Grid | None) -> Tensor:
        """A latent (b, c, h, w) as the decoder takes it: of the weights' type, where they are."""
        if not latent.is_floating_point():
            latent = self.lookup(latent, grid=grid)
        latent = to_latent(latent, grid=grid, channels=self.config.latent_channels)
        return latent.to(self.decoder.input.weight)

    def decode_tiled(self, latent: Tensor, *, tile: int = TILE) -> Tensor:
        """`decode` in little memory: tile by tile, with the result of the whole (`modules.tiling`).

        No gradients. Needs eval mode.

        Args:
            latent: (b, c, h, w).
            tile: side of a tile in pixels of the image, a multiple of 32.

        Raises:
            UsageError: a tile that is no multiple of 32.
        """
        self._check_tile(tile)
        return decode_tiled(self.decoder, self._latent(latent, None), tile=tile)

    def decode_indices(self, indices: Tensor, *, grid: Grid | None = None) -> Tensor:
        """Decode indices alone, without a residual, into images (b, 3, H, W).

        Args:
            indices: as in `lookup`.
            grid: likewise.

        Raises:
            UsageError: what `lookup` raises.
        """
        return self.decode(self.lookup(indices, grid=grid))

    def tokenize(self, images: Images) -> Latents:
        """Images, as in `encode`, to indices, z_q and residual."""
        z = self.encode(images)
        indices, z_q = self.quantize(z)
        return Latents(indices, z_q, z - z_q)

    def reconstruct(
        self,
        images: Images,
        path: Literal["hybrid", "discrete"] = "hybrid",
        *,
        tile: int | None = None,
    ) -> Tensor:
        """Encode and decode images, as in `encode`, by tiles of this side where `tile` is given.

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
        A light decoder is written beside them, into `light/`.
        """
        remove_light(folder)  # a former tokenizer's
        saved = write_checkpoint(folder, to_written(self.config), self.state_dict(), dtype=dtype)
        if dtype is None:  # else these weights are not rounded as those in the file
            self.sha256 = saved
        if self.light is not None:
            self.light.save(folder, saved, dtype=dtype)
        return saved

    def push_to_hub(
        self,
        name: str,
        *,
        dtype: torch.dtype | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
    ) -> str:
        """`save_pretrained` to the Hub (`dcht.hub.push`); returns the address of the commit.

        A repository that has no model card gets one.

        Raises:
            UsageError: the Hub did not take it.
        """
        parameters = sum(p.numel() for p in self.parameters())
        return push(
            lambda folder: self.save_pretrained(folder, dtype=dtype),
            name,
            card=tokenizer_card(name, self.config, parameters),
            private=private,
            token=token,
            revision=revision,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        precision: Precision | str | None = None,
    ) -> Tokenizer:
        """Load a folder, a Hub id, or (None, `bundled`) the tokenizer that ships with the package.

        Returned in eval mode. Loading is strict and free of pickle.

        Args:
            name: which one.
            revision: of a Hub id: branch, tag or commit.
            token: of the Hub; None: the one that `hf auth login` left.
            cache_dir: where downloads are kept; None: where all of Hugging Face's libraries do.
            local_files_only: take what an earlier download left, and ask nobody.
            dtype: of the weights, any float type; None: fp32, whatever the file has.
            device: where they are; None: the CPU.
            precision: in place of `dtype`, by name: `auto`, fp32, bf16 or fp16.

        Raises:
            CheckpointError: files missing, unknown settings, or keys that do not fit; or a light
                decoder beside them that is another tokenizer's.
            UsageError: a precision that is not known, or a `dtype` beside it.
        """
        dtype = dtype_of(precision, dtype, device)
        access = Access(token=token, cache_dir=cache_dir, local_files_only=local_files_only)
        folder = locate(name, bundled=BUNDLED, revision=revision, **access)
        config = from_dict(TokenizerConfig, read_config(folder), str(folder))
        tokenizer = build_on_meta(lambda: cls(config), str(folder))
        load_strict(tokenizer, read_tensors(folder), str(folder))
        tokenizer.sha256 = sha256 = checkpoint_sha256(folder)
        tokenizer.card_psnr = read_card_psnr(folder)
        tokenizer.light = read_light(folder, config, sha256)
        return tokenizer.to(device=device, dtype=dtype).eval()


def _build_quantizer(config: TokenizerConfig) -> VectorQuantizer | FiniteScalarQuantizer | None:
    if config.codebook_size is None:
        return None
    if config.fsq_levels is not None:
        return FiniteScalarQuantizer(config.fsq_levels)
    return VectorQuantizer(
        config.codebook_size, config.latent_channels, commitment_weight=config.commitment_weight
    )

"""What a tokenizer is made of, as plain dataclasses: neither torch nor hydra is imported here.

Letters: stage 0 is the finest; every list has one entry a stage, fine to coarse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated

from dcht.errors import UsageError
from dcht.ranges import WEIGHTLESS, WRITTEN_IF_SET, Length, Range, check_ranges

STAGES = Length(2, 8)


class Block(Enum):
    """A stage's building block (DC-AE; `EVIT5` has the extra 5x5 branch of the sana layout)."""

    RES = "res"
    EVIT = "evit"
    EVIT5 = "evit5"


class Norm(Enum):
    """Normalization: RMS or LayerNorm over the channels of each pixel, or BatchNorm.

    The first two have the same keys and shapes, and loading one as the other is silent:
    published DC-AE weights are RMS, the published DC-HT release is LayerNorm.
    """

    RMS = "rms2d"
    LAYER = "ln2d"
    BATCH = "bn2d"


class Act(Enum):
    """Activation inside residual blocks."""

    SILU = "silu"
    RELU = "relu"


class Resample(Enum):
    """How a factor of 2 is done: 3x3 convolution with pixel-(un)shuffle, or stride 2 / nearest."""

    SHUFFLE = "shuffle"
    STRIDE = "stride"


@dataclass(kw_only=True)
class CoderConfig:
    """An encoder or a decoder. A finest stage of depth 0 leaves its factor of 2 to the stem."""

    widths: Annotated[list[int], STAGES, Range(1, 8192)]
    """Channels of each stage, the finest first."""
    depths: Annotated[list[int], STAGES, Range(0, 32)]
    """Blocks of each stage."""
    blocks: Annotated[list[Block], STAGES]
    """Of each stage: residual convolutions, or EfficientViT's with linear attention."""
    norms: Annotated[list[Norm], STAGES]
    """Of each stage."""
    acts: Annotated[list[Act], STAGES]
    """The activation of each stage."""
    output_norm: Norm = Norm.RMS
    """Norm before the decoder's last convolution (the encoder has none)."""

    def __post_init__(self) -> None:
        """Refuse sizes that are not built, before anything is."""
        check_ranges(self)
        lists = (self.depths, self.blocks, self.norms, self.acts)
        if any(len(entries) != len(self.widths) for entries in lists):
            raise UsageError(f"every list needs {len(self.widths)} entries, one a stage")


@dataclass(kw_only=True)
class TokenizerConfig:
    """DC-HT: DC-AE encoder and decoder around a vector quantizer (paper, section 3.1)."""

    encoder: CoderConfig
    decoder: CoderConfig
    resample: Resample = Resample.SHUFFLE
    """How sides are halved and doubled: pixels moved into channels, or strided convolutions."""
    latent_channels: Annotated[int, Range(1, 8192)] = 32
    """c, the length of a token's latent."""
    codebook_size: Annotated[int | None, Range(1, 1 << 20)] = 16384
    """Number of codes. None: no quantizer, a plain continuous autoencoder (a converted DC-AE)."""
    commitment_weight: Annotated[float, Range(0), WEIGHTLESS] = 0.25
    """Beta of the commitment loss. # not in paper: the value of LlamaGen and the release."""
    residual_std: Annotated[float | None, Range(0, above=True), WEIGHTLESS] = None
    """Standard deviation of z - z_q over the training data, measured after stage 2."""
    fsq_levels: Annotated[list[int] | None, Length(1, 64), Range(2, 1 << 16)] = field(
        default=None, metadata=WRITTEN_IF_SET
    )
    """Finite scalar quantization in place of a codebook: the levels of each latent channel, whose
    product is `codebook_size`. # not in paper."""

    def __post_init__(self) -> None:
        """Refuse a layout that cannot be built, naming the entry that is wrong."""
        check_ranges(self)
        for name, coder in (("encoder", self.encoder), ("decoder", self.decoder)):
            if coder.widths[-1] % self.latent_channels:
                raise ValueError(
                    f"{name}: coarsest width {coder.widths[-1]} is not a multiple of "
                    f"latent_channels {self.latent_channels}"
                )
        if len(self.encoder.widths) != len(self.decoder.widths):
            raise ValueError("encoder and decoder need the same number of stages")
        self._check_levels()

    def _check_levels(self) -> None:
        levels = self.fsq_levels
        if levels is None:
            return
        if len(levels) != self.latent_channels:
            raise UsageError(
                f"fsq_levels has {len(levels)} entries for {self.latent_channels} latent_channels; "
                "give one a channel"
            )
        if self.codebook_size != (size := math.prod(levels)):
            raise UsageError(
                f"codebook_size is {self.codebook_size}; fsq_levels={list(levels)} make {size}"
            )

    @property
    def downsampling(self) -> int:
        """Pixels a token is wide and high: 32 with six stages."""
        return 2 ** (len(self.encoder.widths) - 1)


def _mix(
    widths: list[int], encoder_depths: list[int], decoder_depths: list[int], **fields: object
) -> TokenizerConfig:
    """The in-1.0 / mix-1.0 layout of DC-AE: three residual stages, then three of linear attention.

    In the decoder the residual stages use BatchNorm and ReLU.
    """
    blocks = [Block.RES] * 3 + [Block.EVIT] * 3
    return TokenizerConfig(
        encoder=CoderConfig(
            widths=widths,
            depths=encoder_depths,
            blocks=blocks,
            norms=[Norm.RMS] * 6,
            acts=[Act.SILU] * 6,
        ),
        decoder=CoderConfig(
            widths=list(widths),
            depths=decoder_depths,
            blocks=list(blocks),
            norms=[Norm.BATCH] * 3 + [Norm.RMS] * 3,
            acts=[Act.RELU] * 3 + [Act.SILU] * 3,
        ),
        **fields,  # type: ignore[arg-type]
    )


def _sana(widths: list[int], depths: tuple[list[int], list[int]]) -> TokenizerConfig:
    """The sana-1.0 layout of DC-AE, a plain autoencoder: 5x5 attention branch, no BatchNorm."""
    coders = [
        CoderConfig(
            widths=list(widths),
            depths=coder_depths,
            blocks=[Block.RES] * 3 + [Block.EVIT5] * 3,
            norms=[Norm.RMS] * 6,
            acts=[Act.SILU] * 6,
        )
        for coder_depths in depths
    ]
    return TokenizerConfig(
        encoder=coders[0], decoder=coders[1], resample=Resample.STRIDE, codebook_size=None
    )


_FULL = [128, 256, 512, 512, 1024, 1024]

PRESETS: dict[str, TokenizerConfig] = {
    # The paper's tokenizer (section 4.1): 323.36 M parameters and a codebook of 0.52 M.
    "f32c32": _mix(_FULL, [0, 4, 8, 2, 2, 2], [0, 5, 10, 2, 2, 2]),
    # The two published DC-AE layouts without a quantizer: 323.36 M and 312.25 M parameters.
    "dc_ae_mix": _mix(_FULL, [0, 4, 8, 2, 2, 2], [0, 5, 10, 2, 2, 2], codebook_size=None),
    "dc_ae_sana": _sana(_FULL, ([2, 2, 2, 3, 3, 3], [3, 3, 3, 3, 3, 3])),
    # Release 0.1.0's: trained on two cores, where blocks at high resolution cost the most.
    "small": _mix(
        [8, 16, 32, 64, 128, 256], [0, 0, 0, 1, 2, 2], [0, 0, 1, 2, 2, 2], codebook_size=512
    ),
    # The bundled one: `small` with blocks where it has none, at a half and a quarter of the
    # resolution above all: few weights and little time. Started from it (`dcht.train.start`).
    "small_deep": _mix(
        [8, 16, 32, 64, 128, 256], [0, 1, 1, 2, 2, 2], [0, 2, 4, 4, 3, 2], codebook_size=512
    ),
    # For tests: a 64 px image takes milliseconds.
    "tiny": _mix(
        [8, 8, 16, 32, 32, 32],
        [0, 1, 1, 1, 1, 1],
        [0, 1, 1, 1, 1, 1],
        latent_channels=8,
        codebook_size=64,
    ),
}
"""Named sizes, shared by Python, the command lines and Hydra. Derive with `dataclasses.replace`."""


def _light(widths: list[int], depths: list[int]) -> CoderConfig:
    """A light decoder: convolutions alone.

    Attention's many small steps take a processor longer than they are worth in a preview.
    """
    return CoderConfig(
        widths=widths,
        depths=depths,
        blocks=[Block.RES] * 6,
        norms=[Norm.BATCH] * 6,
        acts=[Act.RELU] * 6,
        output_norm=Norm.BATCH,
    )


LIGHT_PRESETS: dict[str, CoderConfig] = {
    # Of the paper's tokenizer: 10.85 M parameters beside 200.18 M; nobody has trained one.
    "f32c32": _light([32, 64, 128, 128, 256, 256], [0, 2, 3, 2, 2, 2]),
    # Of `small` and `small_deep`: 0.53 M beside 4.50 M and 4.98 M.
    "small": _light([8, 16, 16, 32, 64, 64], [0, 0, 1, 2, 1, 2]),
    # For tests.
    "tiny": _light([8, 8, 8, 16, 16, 16], [0, 0, 1, 1, 1, 1]),
}
"""Layouts of light decoders, by the tokenizers that they are for."""


def _release() -> TokenizerConfig:
    """The layout of the published DC-HT: the paper's, but with LayerNorm where DC-AE has RMS."""
    ours = PRESETS["f32c32"]
    return replace(
        ours,
        encoder=replace(ours.encoder, norms=[Norm.LAYER] * 6, output_norm=Norm.LAYER),
        decoder=replace(
            ours.decoder, norms=[Norm.BATCH] * 3 + [Norm.LAYER] * 3, output_norm=Norm.LAYER
        ),
    )


VARIANTS: dict[str, TokenizerConfig] = {
    "in-1.0": PRESETS["dc_ae_mix"],
    "mix-1.0": PRESETS["dc_ae_mix"],
    "sana-1.0": PRESETS["dc_ae_sana"],
    "dc-ht": _release(),
}
"""What is published, by name: DC-AE three times (the first two differ in weights alone), DC-HT."""


def parse_size(text: str) -> tuple[int, int]:
    """Read `256` or `512x384` (width x height) as (width, height), both multiples of 32.

    Raises:
        UsageError: it is none of that; the message names the nearest multiple.
    """
    words = text.lower().split("x")
    if len(words) not in (1, 2) or not all(word.isdecimal() for word in words):
        raise UsageError(f"size {text!r} is not N or WxH; for example 256 or 512x384")
    width, height = (int(words[0]), int(words[-1]))
    for side in (width, height):
        if side == 0 or side % 32:
            nearest = max(32, round(side / 32) * 32)
            raise UsageError(f"size {side} is not a multiple of 32; the nearest is {nearest}")
    return width, height

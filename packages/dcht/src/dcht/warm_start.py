"""What a training run starts from: random weights, or those of a published tokenizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from dcht.autoencoder import Decoder, Encoder
from dcht.checkpoint import to_dict
from dcht.config import CoderConfig, TokenizerConfig
from dcht.errors import UsageError
from dcht.latent_norm import LATENT_NORM, fold_latent_norm
from dcht.layers import Downsample, GLUConv, LinearAttention, ResBlock, Upsample
from dcht.tokenizer import Tokenizer


def start_tokenizer(
    config: TokenizerConfig, init_from: str | None, *, needs_codebook: bool = False
) -> Tokenizer:
    """A tokenizer of this config with random weights, or with those of `init_from`.

    A source without a codebook (a converted DC-AE) gives encoder and decoder, with DC-AE's latent
    norm folded in; the codebook is random then. `dcht convert --codebook` does the same with a
    norm that is measured. A source with a codebook of another size gives encoder and decoder too.
    One with fewer blocks in some stages gives those it has, and the others begin as the identity:
    before its first step the deeper tokenizer gives the very pictures of the source.

    Args:
        config: the layout to build.
        init_from: a published folder or a Hub id.
        needs_codebook: a random one will not do, because the run uses it before it trains it.

    Raises:
        UsageError: `init_from` has another layout, or gives no codebook where one is needed.
        CheckpointError: `init_from` cannot be loaded.
    """
    tokenizer = Tokenizer(config)
    source = None if init_from is None else Tokenizer.from_pretrained(init_from)
    size = config.codebook_size
    same_codebook = source is not None and source.config.codebook_size == size
    if needs_codebook and not same_codebook:
        raise UsageError(
            f"init_from={init_from} gives no codebook of {size} codes, and the stages use one "
            "before they train it; add discrete_learning to stages, or start from a tokenizer "
            f"with {size} codes"
        )
    if source is None:
        return tokenizer
    theirs, ours = _layout(source.config, config), to_dict(config)
    # What training decides, and what a plain autoencoder does not have.
    skipped = {"residual_std", "commitment_weight", "codebook_size"}
    if odd := [key for key in ours if key not in skipped and ours[key] != theirs[key]]:
        raise UsageError(
            f"init_from={init_from} has another layout than the tokenizer that was asked for "
            f"({', '.join(odd)}); choose its preset with tokenizer=NAME"
        )
    _deepen(tokenizer.encoder, source.encoder)
    _deepen(tokenizer.decoder, source.decoder)
    if source.quantizer is None:
        fold_latent_norm(tokenizer.decoder, LATENT_NORM)
    elif same_codebook:
        tokenizer.require_quantizer().load_state_dict(source.quantizer.state_dict())
        # Only the codebook that it was measured with has this residual.
        tokenizer.config = replace(config, residual_std=source.config.residual_std)
    return tokenizer


def _layout(source: TokenizerConfig, wanted: TokenizerConfig) -> dict[str, Any]:
    """The source's layout, with the depths that are wanted where its own can grow to them."""
    coders = [(source.encoder, wanted.encoder), (source.decoder, wanted.decoder)]
    encoder, decoder = (
        replace(theirs, depths=ours.depths) if _grows(theirs, ours) else theirs
        for theirs, ours in coders
    )
    return to_dict(replace(source, encoder=encoder, decoder=decoder))


def _grows(theirs: CoderConfig, ours: CoderConfig) -> bool:
    """Whether no stage gets fewer blocks. A finest stage without any has another stem."""
    same_stem = bool(theirs.depths[0]) == bool(ours.depths[0])
    pairs = zip(theirs.depths, ours.depths, strict=False)
    return len(theirs.depths) == len(ours.depths) and same_stem and all(a <= b for a, b in pairs)


def _deepen(coder: Encoder | Decoder, given: Encoder | Decoder) -> None:
    """Weights for a coder from one that may have fewer blocks; blocks beyond are the identity."""
    weights = coder.state_dict() | {
        key: value for key, value in given.state_dict().items() if not key.startswith("stages.")
    }
    coder.load_state_dict(weights)
    for stage, shorter in zip(coder.stages, given.stages, strict=True):
        # What resamples stands first in a decoder's stage and last in an encoder's.
        (blocks, resampling), (known, given_resampling) = map(_sorted, (stage, shorter))
        for ours, theirs in zip(resampling, given_resampling, strict=True):
            ours.load_state_dict(theirs.state_dict())
        for ours, theirs in zip(blocks, known, strict=False):
            ours.load_state_dict(theirs.state_dict())
        for block in blocks[len(known) :]:
            for part in block.modules():
                if isinstance(part, ResBlock | LinearAttention | GLUConv):
                    nn.init.zeros_(part.norm.get_parameter("weight"))  # x + norm(...) is x


def _sorted(stage: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """A stage's blocks, and what resamples."""
    layers = list(stage.children())
    blocks = [layer for layer in layers if not isinstance(layer, Downsample | Upsample)]
    return blocks, [layer for layer in layers if isinstance(layer, Downsample | Upsample)]

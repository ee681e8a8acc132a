"""What a training run starts from: random weights, or those of a published tokenizer."""

from __future__ import annotations

from dataclasses import replace

from dcht.checkpoint import to_dict
from dcht.config import TokenizerConfig
from dcht.errors import UsageError
from dcht.latent_norm import LATENT_NORM, fold_latent_norm
from dcht.tokenizer import Tokenizer


def start_tokenizer(
    config: TokenizerConfig, init_from: str | None, *, needs_codebook: bool = False
) -> Tokenizer:
    """A tokenizer of this config with random weights, or with those of `init_from`.

    A source without a codebook (a converted DC-AE) gives encoder and decoder, with DC-AE's latent
    norm folded in; the codebook is random then. `dcht convert --codebook` does the same with a
    norm that is measured. A source with a codebook of another size gives encoder and decoder too.

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
    theirs, ours = to_dict(source.config), to_dict(config)
    # What training decides, and what a plain autoencoder does not have.
    skipped = {"residual_std", "commitment_weight", "codebook_size"}
    if odd := [key for key in ours if key not in skipped and ours[key] != theirs[key]]:
        raise UsageError(
            f"init_from={init_from} has another layout than the tokenizer that was asked for "
            f"({', '.join(odd)}); choose its preset with tokenizer=NAME"
        )
    tokenizer.encoder.load_state_dict(source.encoder.state_dict())
    tokenizer.decoder.load_state_dict(source.decoder.state_dict())
    if source.quantizer is None:
        fold_latent_norm(tokenizer.decoder, LATENT_NORM)
    elif same_codebook:
        tokenizer.require_quantizer().load_state_dict(source.quantizer.state_dict())
        # Only the codebook that it was measured with has this residual.
        tokenizer.config = replace(config, residual_std=source.config.residual_std)
    return tokenizer

"""What a training run starts from: random weights, or those of a published tokenizer."""

from __future__ import annotations

from dataclasses import replace

from dcht.checkpoint import to_dict
from dcht.config import TokenizerConfig
from dcht.errors import UsageError
from dcht.latent_norm import LATENT_NORM, fold_latent_norm
from dcht.tokenizer import Tokenizer


def start_tokenizer(config: TokenizerConfig, init_from: str | None) -> Tokenizer:
    """A tokenizer of this config with random weights, or with those of `init_from`.

    A source without a codebook (a converted DC-AE) gives encoder and decoder, with DC-AE's latent
    norm folded in; the codebook is random then. `dcht convert --codebook` does the same with a
    norm that is measured.

    Args:
        config: the layout to build.
        init_from: a published folder or a Hub id.

    Raises:
        UsageError: `init_from` has another layout.
        CheckpointError: `init_from` cannot be loaded.
    """
    tokenizer = Tokenizer(config)
    if init_from is None:
        return tokenizer
    source = Tokenizer.from_pretrained(init_from)
    theirs, ours = to_dict(source.config), to_dict(config)
    # What training decides, and what a plain autoencoder does not have.
    skipped = {"residual_std", "commitment_weight"}
    if source.quantizer is None:
        skipped.add("codebook_size")
    if odd := [key for key in ours if key not in skipped and ours[key] != theirs[key]]:
        raise UsageError(
            f"init_from={init_from} has another layout than the tokenizer that was asked for "
            f"({', '.join(odd)}); choose its preset with tokenizer=NAME"
        )
    tokenizer.encoder.load_state_dict(source.encoder.state_dict())
    tokenizer.decoder.load_state_dict(source.decoder.state_dict())
    if source.quantizer is None:
        fold_latent_norm(tokenizer.decoder, LATENT_NORM)
    else:
        tokenizer.require_quantizer().load_state_dict(source.quantizer.state_dict())
    tokenizer.config = replace(config, residual_std=source.config.residual_std)
    return tokenizer

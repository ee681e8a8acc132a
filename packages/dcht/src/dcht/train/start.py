"""What a training run starts from: random weights, or those of a published tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from dcht.checkpoint import CONFIG, checkpoint_sha256, from_dict, read_config, to_dict
from dcht.config import PRESETS, CoderConfig, TokenizerConfig
from dcht.convert.latent_norm import LATENT_NORM, fold_latent_norm
from dcht.engine.run_folder import differences
from dcht.errors import UsageError
from dcht.hub import locate
from dcht.light import read_light
from dcht.light.teacher import Teacher
from dcht.modules.autoencoder import Decoder, Encoder
from dcht.modules.layers import Downsample, GLUConv, LinearAttention, ResBlock, Upsample
from dcht.ranges import WEIGHTLESS, marked
from dcht.tokenizer import BUNDLED, Tokenizer


def start_tokenizer(
    config: TokenizerConfig, init_from: str | None, *, needs_codebook: bool = False
) -> Tokenizer:
    """A tokenizer of this config with random weights, or with those of `init_from`.

    A source without a codebook (a converted DC-AE) gives encoder and decoder, with DC-AE's latent
    norm folded in; the codebook is random then. `dcht convert --codebook` does the same with a
    norm that is measured. A source with a codebook of another size gives encoder and decoder too.
    One with fewer blocks in some stages gives those it has, and the others begin as the identity:
    before its first step the deeper tokenizer gives the very images of the source.

    Args:
        config: the layout to build.
        init_from: `bundled`, a published folder or a Hub id.
        needs_codebook: a random one will not do, because the run uses it before it trains it.

    Raises:
        UsageError: `init_from` has another layout, or gives no codebook where one is needed.
        CheckpointError: `init_from` cannot be loaded.
    """
    tokenizer = Tokenizer(config)
    source = None
    if init_from is not None:
        source = Tokenizer.from_pretrained(init_from)
    size = config.codebook_size
    same_codebook = source is not None and (
        (source.config.codebook_size, source.config.fsq_levels) == (size, config.fsq_levels)
    )
    if needs_codebook and not same_codebook and config.fsq_levels is None:
        raise UsageError(
            f"init_from={init_from} gives no codebook of {size} codes, and the stages use one "
            "before they train it; add discrete_learning to stages, or start from a tokenizer "
            f"with {size} codes"
        )
    if source is None:
        return tokenizer
    if different := _differing(source.config, config):
        raise UsageError(
            f"init_from={init_from} has another layout than the tokenizer that was asked for "
            f"({', '.join(different)}); {preset_of(source.config)}"
        )
    _deepen(tokenizer.encoder, source.encoder)
    _deepen(tokenizer.decoder, source.decoder)
    if source.quantizer is None:
        fold_latent_norm(tokenizer.decoder, LATENT_NORM)
    elif same_codebook and tokenizer.quantizer is not None:
        tokenizer.quantizer.load_state_dict(source.quantizer.state_dict())
        # Only the codebook that it was measured with has this residual.
        tokenizer.config = replace(config, residual_std=source.config.residual_std)
    return tokenizer


def start_light(
    tokenizer: Tokenizer, layout: CoderConfig, *, init_from: str | None = None
) -> tuple[Tokenizer, Teacher]:
    """The tokenizer with a light decoder of this layout in its decoder's place, and its teacher.

    It goes on from the one that `init_from` has already, if that has this layout; else it is fresh.
    """
    config = tokenizer.config
    student = Tokenizer(replace(config, decoder=layout))
    student.encoder, student.quantizer = tokenizer.encoder, tokenizer.quantizer
    before = None
    if init_from is not None:
        folder = folder_of(init_from)
        before = read_light(folder, config, checkpoint_sha256(folder))
    if before is not None and before.config == layout:
        student.decoder.load_state_dict(before.network.state_dict())
    return student, Teacher(tokenizer.decoder, (layout, config.decoder))


def _differing(source: TokenizerConfig, wanted: TokenizerConfig) -> list[str]:
    """The settings for which a source's weights cannot start a layout."""
    theirs, ours = _layout(source, wanted), to_dict(wanted)
    # A plain autoencoder has no codes, and what has others still gives encoder and decoder.
    skipped = marked(TokenizerConfig, WEIGHTLESS) | {"codebook_size", "fsq_levels"}
    return [key for key in ours if key not in skipped and ours[key] != theirs[key]]


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


def layout_of(init_from: str, preset: TokenizerConfig) -> TokenizerConfig:
    """The layout of a run from `init_from` where nobody chose one: `preset`, if it can start it.

    If not, it is the checkpoint's, with a codebook as large as the preset's where that has none.

    Raises:
        CheckpointError: there is no such checkpoint, or its `config.json` is damaged.
    """
    found = read_layout(init_from)
    if not _differing(found, preset):
        return preset
    size = found.codebook_size or preset.codebook_size
    weight = preset.commitment_weight
    return replace(found, codebook_size=size, residual_std=None, commitment_weight=weight)


def read_layout(name: str | None) -> TokenizerConfig:
    """The layout of a published tokenizer: a folder, a Hub id, or (`bundled`, None) the bundled."""
    folder = folder_of(name)
    return from_dict(TokenizerConfig, read_config(folder), str(folder / CONFIG))


def folder_of(name: str | None) -> Path:
    """Where a published tokenizer lies: a folder, a Hub id, or (`bundled`, None) the bundled."""
    return locate(name, bundled=BUNDLED)


def preset_of(layout: TokenizerConfig) -> str:
    """Which preset has a layout, as advice to whoever chose another."""
    for name, preset in PRESETS.items():
        same_codes = replace(preset, codebook_size=layout.codebook_size)
        if not differences(
            to_dict(same_codes), to_dict(layout), marked(TokenizerConfig, WEIGHTLESS)
        ):
            other = preset.codebook_size != layout.codebook_size
            codes = f" tokenizer.codebook_size={layout.codebook_size}" if other else ""
            return f"choose tokenizer={name}{codes}"
    return "no preset has its layout: give its settings one by one (tokenizer.KEY=VALUE)"

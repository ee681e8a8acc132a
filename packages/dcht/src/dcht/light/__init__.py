"""The light decoder: a narrower one for the latents of one tokenizer, for previews.

It lies beside the tokenizer's own files in `light/`, a checkpoint of its own that names the
tokenizer by hash; without the folder a tokenizer is what it was. `dcht-train
+experiment=light_decoder` trains one (`dcht.light.teacher`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch

from dcht.checkpoint import (
    CONFIG,
    WEIGHTS,
    build_on_meta,
    from_dict,
    load_strict,
    read_config,
    read_tensors,
    to_written,
    write_checkpoint,
)
from dcht.config import CoderConfig, TokenizerConfig
from dcht.errors import CheckpointError
from dcht.modules.autoencoder import Decoder
from dcht.ranges import SHA256, check_ranges

LIGHT = "light"
"""The folder beside a tokenizer's files."""


@dataclass(kw_only=True)
class LightConfig:
    """What `light/config.json` says."""

    decoder: CoderConfig
    """Its layout; latent channels and resampling are the tokenizer's."""
    tokenizer: Annotated[str, SHA256]
    """SHA-256 of the tokenizer whose latents it decodes."""

    def __post_init__(self) -> None:
        """Refuse what is no hash."""
        check_ranges(self)


@dataclass
class LightDecoder:
    """A light decoder; none of a tokenizer's weights, though one that has it moves it along."""

    config: CoderConfig
    network: Decoder
    """Latents (b, c, h, w) to images (b, 3, H, W)."""

    def save(self, folder: str | Path, tokenizer: str, *, dtype: torch.dtype | None = None) -> None:
        """Write it beside the tokenizer in `folder`, which has this hash."""
        written = to_written(LightConfig(decoder=self.config, tokenizer=tokenizer))
        write_checkpoint(Path(folder) / LIGHT, written, self.network.state_dict(), dtype=dtype)


def read_light(folder: Path, config: TokenizerConfig, sha256: str) -> LightDecoder | None:
    """The light decoder beside a tokenizer of this config and hash; None if there is none.

    Raises:
        CheckpointError: it is damaged, or another tokenizer's.
    """
    place = folder / LIGHT
    if not (place / WEIGHTS).exists():
        return None
    found = from_dict(LightConfig, read_config(place), str(place / CONFIG))
    if found.tokenizer != sha256:
        raise CheckpointError(
            f"{place} is the light decoder of tokenizer {found.tokenizer}, and beside it is "
            f"{sha256}; remove the folder, or train one (dcht-train +experiment=light_decoder)"
        )
    network = build_on_meta(lambda: _build(config, found.decoder), str(place))
    load_strict(network, read_tensors(place), str(place))
    return LightDecoder(found.decoder, network.eval())


def _build(config: TokenizerConfig, layout: CoderConfig) -> Decoder:
    fitting = replace(config, decoder=layout)  # refuses what does not fit its latents
    return Decoder(layout, resample=fitting.resample, latent_channels=fitting.latent_channels)


def remove_light(folder: str | Path) -> None:
    """Remove the light decoder in `folder`, if there is one: another tokenizer comes there."""
    place = Path(folder) / LIGHT
    for name in (WEIGHTS, CONFIG):
        (place / name).unlink(missing_ok=True)

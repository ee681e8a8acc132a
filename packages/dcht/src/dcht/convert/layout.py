"""The layout of a published autoencoder: from its settings if they say it, else from its tensors.

Depths, widths, kinds of blocks and BatchNorm show in keys and shapes. Whether the other norms are
RMS or LayerNorm does not: DC-AE's are RMS, those of the DC-HT release (which has a codebook) are
LayerNorm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from dcht.config import VARIANTS, Act, Block, CoderConfig, Norm, Resample, TokenizerConfig
from dcht.convert.keys import ENDS, STAGES, Family
from dcht.errors import CheckpointError

RELEASE_RESIDUAL_STD = 0.107
"""What the release divides its residuals by (`vae_scale` in the settings of `dc-ar-512`)."""

_BLOCKS = {
    Family.EFFICIENTVIT: {
        "main.conv1.": Block.RES,
        "main.conv2.": Block.RES,
        "context_module.": Block.EVIT,
        "local_module.": Block.EVIT,
    },
    Family.DIFFUSERS: {
        "conv1.": Block.RES,
        "conv2.": Block.RES,
        "norm.": Block.RES,
        "attn.": Block.EVIT,
        "conv_out.": Block.EVIT,
    },
}
"""How the name of a tensor within a block begins; what else a stage holds is a resampling."""
_LOCAL = re.compile(r".*(\.aggreg|\.to_qkv_multiscale)\.")
_NORM = re.compile(r".*norm(_out)?\.(weight|bias)")
_BATCH_NORM = re.compile(r".*norm\.(running_mean|running_var|num_batches_tracked)")
_RELEASE_BLOCKS = {"ResBlock": Block.RES, "EViT_GLU": Block.EVIT, "EViTS5_GLU": Block.EVIT5}

Stage = dict[int, dict[str, Tensor]]
"""The tensors of a stage by layer and by name within the layer."""


def find_family(tensors: Mapping[str, Tensor]) -> Family:
    """Whose names these are.

    Raises:
        CheckpointError: they belong to neither family.
    """
    for family in Family:
        if _stages(tensors, family, "encoder"):
            return family
    examples = " or ".join(f"{ENDS[family]['encoder.output']}.weight" for family in Family)
    raise CheckpointError(f"no DC-AE checkpoint; one has a key like {examples}")


def find_layout(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], family: Family
) -> TokenizerConfig:
    """The layout these tensors are meant for.

    Args:
        tensors: of one family.
        settings: the `config.json` beside them, or nothing.
        family: whose names the tensors have.

    Raises:
        CheckpointError: naming what is missing, or what does not agree with the settings.
    """
    codebook = f"{ENDS[Family.EFFICIENTVIT]['quantizer']}.weight"
    released = codebook in tensors
    norm = Norm.LAYER if released else Norm.RMS
    if "network" in settings:
        config = _from_network(settings["network"])
    else:
        config = _from_tensors(tensors, family, norm)
    for side, coder in (("encoder", config.encoder), ("decoder", config.decoder)):
        stated = settings.get(f"{side}_layers_per_block")  # diffusers says this
        if stated is not None and list(stated) != coder.depths:
            raise CheckpointError(
                f"config.json: {side}_layers_per_block is {list(stated)}; the tensors have "
                f"{coder.depths}"
            )
    if not released:
        return replace(config, codebook_size=None)
    if settings.get("codebook_l2_norm") is False:
        raise CheckpointError("codebook_l2_norm is false; only l2-normalized codebooks are read")
    return replace(
        config,
        codebook_size=tensors[codebook].shape[0],
        commitment_weight=settings.get("commit_loss_beta", config.commitment_weight),
        residual_std=RELEASE_RESIDUAL_STD,
    )


def check_variant(config: TokenizerConfig, name: str) -> None:
    """Refuse a layout that is not the named variant's.

    Raises:
        CheckpointError: naming the variant and the first difference.
    """
    expected = VARIANTS[name]
    for side in ("encoder", "decoder"):
        for field in ("blocks", "norms", "widths", "depths"):
            theirs, ours = (
                [getattr(entry, "value", entry) for entry in getattr(getattr(c, side), field)]
                for c in (expected, config)
            )
            if ours != theirs:
                raise CheckpointError(
                    f"not {name}: its {side} has {field} {theirs}, this one {ours}"
                )
    if (config.codebook_size is None) != (expected.codebook_size is None):
        kind = "no codebook" if expected.codebook_size is None else "a codebook"
        raise CheckpointError(f"not {name}: that has {kind}")


def _from_network(network: Mapping[str, Any]) -> TokenizerConfig:
    # The layout spelt out, as the release's code builds it.
    def coder(side: Mapping[str, Any]) -> CoderConfig:
        def each(value: str | list[str]) -> list[str]:
            return value if isinstance(value, list) else [value] * len(side["width_list"])

        return CoderConfig(
            widths=list(side["width_list"]),
            depths=list(side["depth_list"]),
            blocks=[_RELEASE_BLOCKS[name] for name in each(side["block_type"])],
            norms=[_norm(name) for name in each(side["norm"])],
            acts=[Act(name) for name in each(side["act"])],
            output_norm=_norm(side["out_norm"] or Norm.RMS.value),  # an encoder has none
        )

    try:
        return TokenizerConfig(
            encoder=coder(network["encoder"]),
            decoder=coder(network["decoder"]),
            latent_channels=network["latent_channels"],
        )
    except KeyError as error:
        raise CheckpointError(f"config.json: {error} is missing or not known") from None
    except ValueError as error:
        raise CheckpointError(f"config.json: {error}") from None


def _norm(name: str) -> Norm:
    # "t" is for the Triton kernel of the same function.
    return Norm(name.removeprefix("t"))


def _from_tensors(tensors: Mapping[str, Tensor], family: Family, norm: Norm) -> TokenizerConfig:
    output = f"{ENDS[family]['encoder.output']}.weight"
    if output not in tensors:
        raise CheckpointError(f"key {output} is missing ({family.value} family)")
    encoder, decoder = (
        _coder(_stages(tensors, family, side), family, side, norm)
        for side in ("encoder", "decoder")
    )
    # A strided convolution makes all channels of the next stage, the other kind a quarter.
    strided = any(
        len(value) == encoder.widths[stage + 1]
        for stage, layers in _stages(tensors, family, "encoder").items()
        for names in layers.values()
        for name, value in names.items()
        if _block(name, family) is None and stage + 1 < len(encoder.widths)
    )
    return TokenizerConfig(
        encoder=encoder,
        decoder=decoder,
        resample=Resample.STRIDE if strided else Resample.SHUFFLE,
        latent_channels=len(tensors[output]),
    )


def _stages(tensors: Mapping[str, Tensor], family: Family, side: str) -> dict[int, Stage]:
    template = re.escape(STAGES[family, side]).replace(r"\{stage\}", "([0-9]{1,3})")
    pattern = re.compile(template.replace(r"\{layer\}", "([0-9]{1,3})") + r"\.(.+)")
    stages: dict[int, Stage] = {}
    for key, value in tensors.items():
        if match := pattern.fullmatch(key):
            stage, layer, name = int(match[1]), int(match[2]), match[3]
            stages.setdefault(stage, {}).setdefault(layer, {})[name] = value
    return stages


def _block(name: str, family: Family) -> Block | None:
    kinds = (block for start, block in _BLOCKS[family].items() if name.startswith(start))
    return next(kinds, None)


def _coder(stages: dict[int, Stage], family: Family, side: str, norm: Norm) -> CoderConfig:
    if not stages:
        raise CheckpointError(f"there is no {side} ({family.value} family)")
    rows = []
    for number in range(max(stages) + 1):
        blocks = {
            layer: names
            for layer, names in stages.get(number, {}).items()
            if any(_block(name, family) for name in names)
        }
        names = {name: value for layer in blocks.values() for name, value in layer.items()}
        widths = [len(value) for name, value in names.items() if _NORM.fullmatch(name)]
        if number and not widths:
            raise CheckpointError(f"{side} stage {number} has no block ({family.value} family)")
        # A decoder's stage begins with its upsampling, but for the coarsest.
        first = 1 if side == "decoder" and number < max(stages) else 0
        kind = next(filter(None, (_block(name, family) for name in names)), Block.RES)
        if kind is Block.EVIT and any(map(_LOCAL.match, names)):
            kind = Block.EVIT5
        batch = any(map(_BATCH_NORM.match, names))
        rows.append(
            (
                widths[0] if widths else 0,
                max(blocks) + 1 - first if blocks else 0,
                kind,
                Norm.BATCH if batch else norm,
                Act.RELU if batch else Act.SILU,
            )
        )
    widths, depths, blocks, norms, acts = (list(column) for column in zip(*rows, strict=True))
    if depths[0] == 0 and len(rows) > 1:
        # The stem does this stage's factor of 2; nothing is built from the rest.
        widths[0], norms[0], acts[0] = max(1, widths[1] // 2), norms[1], acts[1]
    return CoderConfig(
        widths=widths, depths=depths, blocks=blocks, norms=norms, acts=acts, output_norm=norm
    )

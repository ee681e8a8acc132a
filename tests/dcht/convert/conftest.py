"""Published autoencoders, small, as diffusers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

SCALES = {"mix": ((),) * 6, "sana": ((), (), (), (5,), (5,), (5,))}


def autoencoder(kind: str) -> AutoencoderDC:
    """diffusers' class in a published layout, small, with random weights and statistics."""
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

    mix = kind == "mix"
    widths = (8, 16, 32, 32, 64, 64)
    depths = ((0, 2, 1, 1, 1, 1), (0, 1, 2, 1, 1, 1)) if mix else ((1, 1, 1, 2, 1, 1),) * 2
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = AutoencoderDC(
            latent_channels=16,
            encoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,  # type: ignore[arg-type]
            decoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,  # type: ignore[arg-type]
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            encoder_layers_per_block=depths[0],
            decoder_layers_per_block=depths[1],
            encoder_qkv_multiscales=SCALES[kind],
            decoder_qkv_multiscales=SCALES[kind],
            downsample_block_type="pixel_unshuffle" if mix else "conv",
            upsample_block_type="pixel_shuffle" if mix else "interpolate",
            decoder_norm_types=["batch_norm"] * 3 + ["rms_norm"] * 3 if mix else "rms_norm",  # type: ignore[arg-type]
            decoder_act_fns=["relu"] * 3 + ["silu"] * 3 if mix else "silu",  # type: ignore[arg-type]
        )
        for name, value in model.state_dict().items():
            if value.is_floating_point() and value.ndim == 1:
                low = 0.5 if name.endswith(("weight", "running_var")) else -0.2
                value.uniform_(low, low + 0.4)
    return model.eval()


@pytest.fixture(scope="session", params=["mix", "sana"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    autoencoder(request.param).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of the two, for what does not depend on the layout."""
    folder = tmp_path_factory.mktemp("mix")
    autoencoder("mix").save_pretrained(folder)
    return folder

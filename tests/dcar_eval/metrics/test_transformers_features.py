"""DINOv2 and CLIP as extractors: tiny networks with random weights, saved to a folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
)

from dcar_eval.metrics.features import load_extractor
from dcar_eval.metrics.transformers_features import CLIP, IMAGENET
from dcht.errors import UsageError

SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14,
    "image_size": 28,
}  # fmt: skip


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8)


def normalized(images: torch.Tensor, side: int, normalization: tuple) -> torch.Tensor:
    x = F.interpolate(images / 255, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalization)
    return (x - mean) / std


def test_dinov2_is_the_class_token_after_the_last_norm(
    tmp_path: Path, images: torch.Tensor
) -> None:
    torch.manual_seed(0)
    network = Dinov2Model(Dinov2Config(**SMALL)).eval()
    network.save_pretrained(tmp_path)
    extractor = load_extractor(f"dinov2:{tmp_path}", device=torch.device("cpu"))
    with torch.inference_mode():
        expected = network(pixel_values=normalized(images, 224, IMAGENET)).last_hidden_state[:, 0]
    assert extractor.dim == 16
    torch.testing.assert_close(torch.from_numpy(extractor(images)), expected)


def test_clip_is_the_projected_embedding(tmp_path: Path, images: torch.Tensor) -> None:
    torch.manual_seed(0)
    config = CLIPVisionConfig(**SMALL, intermediate_size=32, projection_dim=8)
    network = CLIPVisionModelWithProjection(config).eval()
    network.save_pretrained(tmp_path)
    extractor = load_extractor(f"clip:{tmp_path}", device=torch.device("cpu"))
    with torch.inference_mode():
        expected = network(pixel_values=normalized(images, 28, CLIP)).image_embeds
    assert extractor.dim == 8
    torch.testing.assert_close(torch.from_numpy(extractor(images)), expected)


def test_weights_that_are_not_there_are_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="or name a folder: --extractor dinov2:FOLDER") as error:
        load_extractor(f"dinov2:{tmp_path / 'nothing'}", device=torch.device("cpu"))
    assert "\n" not in str(error.value)

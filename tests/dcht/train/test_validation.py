import pytest
import torch

from dcht.data.sources import list_inputs
from dcht.images import LABEL_HEIGHT
from dcht.perceptual import LPIPS
from dcht.reconstruct.show import psnr
from dcht.train.dataset import Crops
from dcht.train.validation import (
    center_batches,
    measure_residual_std,
    sample_latents,
    validate,
)
from dcht.train_config import DataConfig


@pytest.fixture
def crops(images):
    config = DataConfig(root=str(images), size=64, crop=64, num_val=1)
    return Crops(list_inputs(images), config, cache=False)


def test_psnr_of_a_known_error():
    images = torch.zeros(2, 3, 8, 8)
    off_by_ten = images + 10 / 127.5
    # 20 log10(255 / 10)
    assert psnr(off_by_ten, images).tolist() == pytest.approx([28.1308, 28.1308], abs=1e-3)
    assert psnr(images + 100, images + 1).min() > 100  # clamped to white, which it is


def test_both_paths_are_measured_and_shown(tokenizer, crops):
    result = validate(tokenizer, crops, 4)
    images = torch.cat(list(center_batches(tokenizer, crops, 4)))
    with torch.no_grad():
        expected = psnr(tokenizer.reconstruct(images, "discrete"), images).mean()
    assert result.psnr_discrete == pytest.approx(expected.item(), abs=1e-3)
    assert set(result.scalars()) == {"val_psnr_hybrid", "val_psnr_discrete"}
    assert result.image.size == (4 * 68 - 4, LABEL_HEIGHT + 6 * 68 - 4)


def test_latents_and_residual(tokenizer, crops):
    images = torch.cat(list(center_batches(tokenizer, crops, 6)))
    latents = sample_latents(tokenizer, crops, 9, 2)
    assert latents.shape == (16, 8)  # four positions an image, two batches of two images
    with torch.no_grad():
        residual = tokenizer.residual(tokenizer.encode(images))
    measured = measure_residual_std(tokenizer, crops, 4)
    assert measured == pytest.approx(residual.std(correction=0).item(), rel=1e-5)


def test_lpips_is_measured_where_its_network_is_given(tokenizer, crops):
    torch.manual_seed(0)
    network = LPIPS("alex").eval()
    numbers = validate(tokenizer, crops, 4, lpips=network).scalars()
    images = torch.cat(list(center_batches(tokenizer, crops, 4)))
    with torch.no_grad():
        expected = network(tokenizer.reconstruct(images), images).mean().item()
    assert numbers["val_lpips_hybrid"] == pytest.approx(expected, rel=1e-4)
    assert numbers["val_lpips_discrete"] != numbers["val_lpips_hybrid"]

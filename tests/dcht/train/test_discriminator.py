import pytest
import torch

from dcht.train.discriminator import PatchDiscriminator


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 128), (256, 256)])
def test_one_logit_a_patch(height, width):
    logits = PatchDiscriminator(8)(torch.zeros(1, 3, height, width))
    assert logits.shape == (1, 1, height // 8 - 2, width // 8 - 2)


def test_a_patch_is_70_pixels_wide_and_high():
    discriminator = PatchDiscriminator(4).eval()  # eval: batch statistics would mix all pixels
    images = torch.randn(1, 3, 192, 192, requires_grad=True)
    discriminator(images)[0, 0, 11, 11].backward()
    seen = images.grad.abs().sum(dim=(0, 1)) > 0  # type: ignore[union-attr]
    assert (seen.any(dim=0).sum(), seen.any(dim=1).sum()) == (70, 70)


def test_full_size_by_count():
    with torch.device("meta"):
        discriminator = PatchDiscriminator()
    count = sum(parameter.numel() for parameter in discriminator.parameters())
    # 4x4 convolutions 3-64-128-256-512-1, biases on the first and last, three BatchNorms.
    assert count == 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 1 + 2 * 896


def test_initialization():
    torch.manual_seed(0)
    layers = PatchDiscriminator().layers
    weight = next(m.weight for m in layers if isinstance(m, torch.nn.Conv2d) and m.bias is None)
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=1e-3)

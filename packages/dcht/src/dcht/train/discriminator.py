"""The adversary: a PatchGAN that judges overlapping patches of 70 x 70 px (Isola et al. 2017).

# not in paper: its form. Table 7 equals LlamaGen's training defaults, whose discriminator this is.
"""

from __future__ import annotations

from torch import Tensor, nn

KERNEL = 4
SLOPE = 0.2
NUM_HALVINGS = 3
INIT_STD = 0.02


class PatchDiscriminator(nn.Module):
    """Images (b, 3, H, W) to logits (b, 1, H / 8 - 2, W / 8 - 2); positive means real."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, channels, KERNEL, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
        ]
        width = channels
        for depth in range(1, NUM_HALVINGS + 1):
            wider = channels * min(2**depth, 8)
            stride = 2 if depth < NUM_HALVINGS else 1
            layers += [
                nn.Conv2d(width, wider, KERNEL, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(wider),
                nn.LeakyReLU(SLOPE),
            ]
            width = wider
        layers.append(nn.Conv2d(width, 1, KERNEL, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """Judge images (b, 3, H, W) in [-1, 1]."""
        return self.layers(images)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, mean=1.0, std=INIT_STD)
        nn.init.zeros_(module.bias)

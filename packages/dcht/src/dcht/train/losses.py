"""What the decoder's output is held against (paper, Table 7): L2, L1, LPIPS and a GAN.

Every function returns an unweighted scalar; `LossConfig` has the weights and `weighted_sum` is the
one place that applies them. The codebook and commitment losses are the quantizer's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcht.errors import UsageError
from dcht.perceptual import load_lpips
from dcht.train_config import LossConfig


class ReconstructionLoss(nn.Module):
    """The pixel and perceptual terms whose weight is not zero; the others are not computed.

    Attributes:
        config: the weights, which may be others from stage to stage.
    """

    def __init__(self, config: LossConfig) -> None:
        """Load the perceptual network, unless its weight is 0; it stays then what it is.

        Raises:
            UsageError: it has no weights; the message says where to get them.
        """
        super().__init__()
        self.config = config
        self.lpips = None
        if config.lpips:
            try:
                self.lpips = load_lpips(config.lpips_net.value, config.lpips_weights)
            except UsageError as error:
                raise UsageError(f"{error}, or switch the loss off with loss.lpips=0") from None

    def forward(self, output: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Terms by name for output and images (b, 3, H, W) in [-1, 1], means over the batch."""
        terms = {}
        if self.config.l2:
            terms["l2"] = F.mse_loss(output, images)
        if self.config.l1:
            terms["l1"] = F.l1_loss(output, images)
        if self.config.lpips and self.lpips is not None:
            terms["lpips"] = self.lpips(output, images).mean()
        return terms


def generator_loss(fake_logits: Tensor) -> Tensor:
    """What the decoder minimizes: -mean of the discriminator's logits on its output."""
    return -fake_logits.mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Hinge loss: (relu(1 - real) + relu(1 + fake)) / 2, means over patches."""
    return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())


def weighted_sum(terms: Mapping[str, Tensor], config: LossConfig) -> Tensor:
    """The scalar to differentiate: each term times the weight of the same name."""
    return torch.stack([getattr(config, name) * value for name, value in terms.items()]).sum()

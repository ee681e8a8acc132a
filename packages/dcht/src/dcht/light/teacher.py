"""What a light decoder learns from: the tokenizer's own decoder, which is its teacher.

Beside the pixels it is held against what the teacher makes of the same latent, and, stage by stage,
against the teacher's features, which a 1x1 convolution reads from its own narrower ones (Romero et
al. 2015, arXiv 1412.6550). The convolutions train with it and are left behind.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcht.config import CoderConfig
from dcht.loss_config import LossConfig
from dcht.modules.autoencoder import Decoder


class Teacher(nn.Module):
    """The large decoder, frozen, and the convolutions that read its features."""

    def __init__(self, decoder: Decoder, layouts: tuple[CoderConfig, CoderConfig]) -> None:
        """Of the layouts, the first is the light decoder's, the second the teacher's own."""
        super().__init__()
        self.decoder = decoder.requires_grad_(False).eval()
        # From the coarsest stage to the last that both have: a finest one without blocks is none.
        widths = [layout.widths[0 if layout.depths[0] else 1 :][::-1] for layout in layouts]
        self.projections = nn.ModuleList(
            nn.Conv2d(ours, theirs, 1) for ours, theirs in zip(*widths, strict=False)
        )

    def forward(
        self, light: Decoder, latent: Tensor, config: LossConfig
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Decode latents (b, c, h, w) with both.

        Returns:
            The light decoder's images (b, 3, H, W) in fp32; unweighted terms that pass through
            them (`teacher`: mean absolute difference from the teacher's); and those that do not
            (`features`: mean squared error over the features' mean square, the mean over stages).
        """
        with torch.no_grad():
            wanted, target = self.decoder.trace(latent)
        features, output = light.trace(latent)
        output = output.float()
        of_output, of_features = {}, {}
        if config.teacher:
            of_output["teacher"] = F.l1_loss(output, target.float())
        if config.features:
            errors = [
                F.mse_loss(project(ours).float(), theirs.float()) / theirs.float().square().mean()
                for project, ours, theirs in zip(self.projections, features, wanted, strict=False)
            ]
            of_features["features"] = torch.stack(errors).mean()
        return output, of_output, of_features

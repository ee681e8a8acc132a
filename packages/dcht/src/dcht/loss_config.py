"""The settings of the tokenizer's losses, with the paper's values (Table 7) as defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated

from dcht.errors import UsageError
from dcht.ranges import PATH, Range, check_ranges


class LPIPSNet(Enum):
    """The trunk of the perceptual loss."""

    vgg = "vgg"
    alex = "alex"


@dataclass(kw_only=True)
class LossConfig:
    """Weights of the loss terms; a term of weight 0 is neither computed nor loaded."""

    l2: Annotated[float, Range(0, 1e6)] = 1.0
    """Of the mean squared error of pixels."""
    l1: Annotated[float, Range(0, 1e6)] = 0.0
    """Of the mean absolute error of pixels."""
    lpips: Annotated[float, Range(0, 1e6)] = 1.0
    """Of the perceptual distance."""
    gan: Annotated[float, Range(0, 1e6)] = 0.5
    """Of what the discriminator says."""
    teacher: Annotated[float, Range(0, 1e6)] = 0.0
    """Of a light decoder's mean absolute difference from what the large one makes."""
    features: Annotated[float, Range(0, 1e6)] = 0.0
    """Of its features' error beside the large one's, stage by stage (`dcht.light.teacher`)."""
    codebook: Annotated[float, Range(0, 1e6)] = 1.0
    """# not in paper: LlamaGen's value; beta is the tokenizer's `commitment_weight`."""
    commitment: Annotated[float, Range(0, 1e6)] = 1.0
    """On top of beta."""
    lpips_net: LPIPSNet = LPIPSNet.vgg
    lpips_weights: Annotated[str | None, PATH] = None
    """Safetensors file or its folder; None: see `dcht.perceptual.load_lpips`."""
    gan_start: Annotated[int, Range(0)] = 20_000
    """Step of the run at which the discriminator comes in. # not in paper: LlamaGen's value."""
    gan_start_in_stage: Annotated[int | None, Range(0)] = None
    """Step of the stage at which it comes in, counted anew in every stage; None: `gan_start`."""
    gan_adaptive: bool = False
    """Multiply `gan` by the ratio of both sides' gradients at the decoder's last layer, as VQGAN
    does: whatever the discriminator says, it then pulls `gan` times as hard as the other terms."""
    discriminator_channels: Annotated[int, Range(1, 4096)] = 64
    """Width of the discriminator's first layer."""
    discriminator_from: Annotated[str | None, PATH] = None
    """A run whose discriminator goes on here: its folder, or its `discriminator.safetensors`."""

    def __post_init__(self) -> None:
        """Refuse values without sense."""
        check_ranges(self)
        if not (self.l2 or self.l1 or self.lpips):
            raise UsageError(
                "loss.l2, loss.l1 and loss.lpips are all 0: nothing tells the decoder what to make"
            )

    def adversarial(self, step: int, stage_step: int) -> bool:
        """Whether the discriminator takes part in this step of the run and of its stage."""
        if self.gan_start_in_stage is not None:
            return self.gan > 0 and stage_step >= self.gan_start_in_stage
        return self.gan > 0 and step >= self.gan_start

    def never_adversarial(self, lengths: Sequence[int]) -> str | None:
        """Why the GAN stays out of a run whose stages have these lengths; None: it does not."""
        if not self.gan:
            return None
        if self.gan_start_in_stage is not None:
            if self.gan_start_in_stage < max(lengths):
                return None
            return (
                f"loss.gan_start_in_stage={self.gan_start_in_stage} and no stage has more than "
                f"{max(lengths)} steps"
            )
        if self.gan_start < sum(lengths):
            return None
        return (
            f"loss.gan_start={self.gan_start} counts the steps of the run, which has "
            f"{sum(lengths)}; loss.gan_start_in_stage counts those of a stage"
        )


@dataclass(kw_only=True)
class StageLoss:
    """What a stage changes of the run's `loss`; None: nothing."""

    l2: Annotated[float | None, Range(0, 1e6)] = None
    """In place of the run's."""
    l1: Annotated[float | None, Range(0, 1e6)] = None
    """In place of the run's."""
    lpips: Annotated[float | None, Range(0, 1e6)] = None
    """In place of the run's."""
    gan: Annotated[float | None, Range(0, 1e6)] = None
    """In place of the run's."""
    codebook: Annotated[float | None, Range(0, 1e6)] = None
    """In place of the run's."""
    commitment: Annotated[float | None, Range(0, 1e6)] = None
    """In place of the run's."""
    gan_adaptive: bool | None = None
    """In place of the run's."""

    def __post_init__(self) -> None:
        """Refuse values without sense."""
        check_ranges(self)

    def applied(self, loss: LossConfig) -> LossConfig:
        """The losses of the stage in a run with `loss`."""
        changes = {name: value for name, value in vars(self).items() if value is not None}
        return replace(loss, **changes)

"""The losses of a tokenizer's training: `dcht.train.losses`."""

from dcht.train.losses import (
    ReconstructionLoss as ReconstructionLoss,
)
from dcht.train.losses import (
    discriminator_loss as discriminator_loss,
)
from dcht.train.losses import (
    generator_loss as generator_loss,
)
from dcht.train.losses import (
    weighted_sum as weighted_sum,
)

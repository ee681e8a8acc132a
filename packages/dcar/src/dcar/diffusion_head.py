"""The residual head: `dcar.modules.diffusion_head`."""

from dcar.modules.diffusion_head import (
    Budget as Budget,
)
from dcar.modules.diffusion_head import (
    DiffusionHead as DiffusionHead,
)
from dcar.modules.diffusion_head import (
    HeadNoise as HeadNoise,
)
from dcar.modules.diffusion_head import (
    guide as guide,
)

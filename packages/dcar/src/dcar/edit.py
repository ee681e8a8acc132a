"""Edits: `dcar.pipeline.edit`."""

from dcar.pipeline.edit import (
    Edit as Edit,
)
from dcar.pipeline.edit import (
    Mask as Mask,
)
from dcar.pipeline.edit import (
    inpaint as inpaint,
)
from dcar.pipeline.edit import (
    outpaint as outpaint,
)
from dcar.pipeline.edit import (
    snapped_mask as snapped_mask,
)
from dcar.pipeline.edit import (
    token_grid as token_grid,
)

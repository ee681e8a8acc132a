"""The text encoder: `dcar.modules.text`."""

from dcar.modules.text import (
    TextEncoder as TextEncoder,
)
from dcar.modules.text import (
    TextTokens as TextTokens,
)

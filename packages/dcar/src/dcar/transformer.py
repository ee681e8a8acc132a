"""The transformer: `dcar.modules.transformer`."""

from dcar.modules.transformer import (
    Generator as Generator,
)
from dcar.modules.transformer import (
    GeneratorOutput as GeneratorOutput,
)
from dcar.modules.transformer import (
    TextContext as TextContext,
)

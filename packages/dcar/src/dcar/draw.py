"""The way from prompt to pixels: `dcar.pipeline.generate_batch`."""

from dcar.pipeline.generate_batch import (
    Parts as Parts,
)
from dcar.pipeline.generate_batch import (
    generate_batch as generate_batch,
)

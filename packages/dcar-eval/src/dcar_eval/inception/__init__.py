"""FID's Inception: `dcar_eval.metrics.inception`; `python -m` fetches its weights."""

from dcar_eval.metrics.inception import (
    Inception as Inception,
)
from dcar_eval.metrics.inception import (
    download as download,
)
from dcar_eval.metrics.inception import (
    load_inception as load_inception,
)

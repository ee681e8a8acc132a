"""How fast a model generates, part by part.

Names load on first use: what a command line reads from this folder costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcar_eval.profile.measure import (
        Speed as Speed,
    )
    from dcar_eval.profile.measure import (
        count_flops as count_flops,
    )
    from dcar_eval.profile.measure import (
        count_parameters as count_parameters,
    )
    from dcar_eval.profile.measure import (
        device_name as device_name,
    )
    from dcar_eval.profile.measure import (
        generation_parts as generation_parts,
    )
    from dcar_eval.profile.measure import (
        measure_speed as measure_speed,
    )
    from dcar_eval.profile.measure import (
        profile as profile,
    )
    from dcar_eval.profile.measure import (
        table as table,
    )

_HOME = {
    "Speed": "measure",
    "count_flops": "measure",
    "count_parameters": "measure",
    "device_name": "measure",
    "generation_parts": "measure",
    "measure_speed": "measure",
    "profile": "measure",
    "table": "measure",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

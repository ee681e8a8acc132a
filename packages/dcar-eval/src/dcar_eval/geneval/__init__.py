"""GenEval without mmcv: prompts, detection, colors and rules (Ghosh et al. 2023)."""

from dcar_eval.geneval.rules import (
    COLORS,
    RELATIONS,
    Detection,
    Options,
    Verdict,
    evaluate_detections,
    relations,
)

__all__ = [
    "COLORS",
    "RELATIONS",
    "Detection",
    "Options",
    "Verdict",
    "evaluate_detections",
    "relations",
]

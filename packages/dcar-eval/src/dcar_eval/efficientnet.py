"""EfficientNet-Lite0: `dcar_eval.metrics.efficientnet`."""

from dcar_eval.metrics.efficientnet import (
    EfficientNetLite0 as EfficientNetLite0,
)
from dcar_eval.metrics.efficientnet import (
    load_efficientnet as load_efficientnet,
)

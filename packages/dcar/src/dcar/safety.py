"""The check of prompts: `dcar.pipeline.safety`."""

from dcar.pipeline.safety import (
    REPLACEMENT as REPLACEMENT,
)
from dcar.pipeline.safety import (
    SafetyChecker as SafetyChecker,
)
from dcar.pipeline.safety import (
    Screened as Screened,
)
from dcar.pipeline.safety import (
    Verdict as Verdict,
)
from dcar.pipeline.safety import (
    screen as screen,
)

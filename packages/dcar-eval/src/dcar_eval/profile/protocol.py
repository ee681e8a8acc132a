"""What a profile measures and under which conditions. Neither torch nor hydra is imported here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from dcht.device import Precision

LATENCY_BATCH, THROUGHPUT_BATCH = 1, 16
"""Images in one pass (section 4.1)."""
DEFINITION = (
    "latency: seconds from a prompt to the pixels of one image; throughput: images a second at "
    "batch 16. Tokenization of the text, the text encoder, all steps of the transformer with "
    "guidance and with the noise (drawn on the CPU), the residual head and the decoder are in; "
    "loading and writing PNG files are not. Each part is waited for; a time is the median of the "
    "repeats after the warm-up. FLOPs are those of matrix products, attention and convolutions "
    "of one image as executed, two a multiply-add. Peak memory is of both batches' runs: on a GPU "
    "what torch had allocated, on a CPU the resident set of the process."
)


PRECISIONS = (Precision.fp32, Precision.bf16, Precision.fp16)
"""What is measured unless less is named."""


@dataclass(frozen=True, kw_only=True)
class ProfileProtocol:
    """Conditions of a profile, but for the device."""

    name: str
    precisions: tuple[Precision, ...]
    size: tuple[int, int] | None = None
    """(width, height) in pixels; None: the checkpoint's."""
    sampling_preset: str | None = None
    """Of the sampler; None: the checkpoint's settings."""

    def described(self, *, size: tuple[int, int], device: str) -> dict[str, Any]:
        """Every line, and the hash of them: what results carry.

        The name says the size and the device too: times compare under the same of both alone.
        """
        lines = {
            "name": f"{self.name}, {size[0]} x {size[1]} on {device}",
            "precisions": [precision.name for precision in self.precisions],
            "definition": DEFINITION,
        }
        text = json.dumps(lines, sort_keys=True)
        return lines | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


PAPER = ProfileProtocol(
    name="paper", precisions=(Precision.fp16,), size=(512, 512), sampling_preset="paper"
)
"""Section 4.1 and Table 2: float16, 512 px, 12 steps. The device was an NVIDIA A100; what its times
include is not said. # not in paper: `DEFINITION`."""

"""Whose a store is: its tokenizer's, and that of any which differs in the decoder alone.

Stage 3 trains the decoder and nothing else, so a store that was made before serves after.
"""

from __future__ import annotations

import hashlib
import json

from dcht.checkpoint import to_written
from dcht.config import TokenizerConfig
from dcht.errors import CheckpointError
from dcht.latents import EncodePlan
from dcht.ranges import WEIGHTLESS, marked
from dcht.releases import holder
from dcht.tokenizer import Tokenizer


def latents_sha256(tokenizer: Tokenizer) -> str:
    """A hash of what makes latents: encoder and quantizer, and their settings; weights in fp32."""
    without = marked(TokenizerConfig, WEIGHTLESS) | {"decoder"}
    settings = {k: v for k, v in to_written(tokenizer.config).items() if k not in without}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for key, value in sorted(tokenizer.state_dict().items()):
        if not key.startswith("decoder."):
            digest.update(f"{key} {tuple(value.shape)}".encode())
            digest.update(value.float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def require_maker(tokenizer: Tokenizer, plan: EncodePlan, store: object, *, remedy: str) -> None:
    """Refuse a tokenizer that would have made other latents than a store's.

    Raises:
        CheckpointError: it would.
    """
    if tokenizer.sha256 == plan.tokenizer_sha256:
        return
    if plan.latents_sha256 is not None and latents_sha256(tokenizer) == plan.latents_sha256:
        return
    raise CheckpointError(
        f"{store} was encoded by tokenizer {plan.tokenizer_sha256}, not by {tokenizer.sha256}; "
        f"{remedy}{holder(plan.tokenizer_sha256)}"
    )

"""The weights that releases of these packages bundle, by hash: who holds what is asked for.

What was made with the weights of one release (images, stores of latents, generators of users) stays
with them. A later release says which one holds them, and reads them from that one's wheels.
"""

from __future__ import annotations

TOKENIZER, GENERATOR = "dcht/checkpoints/small", "dcar/checkpoints/default"
"""Where a wheel has them."""
RELEASES = {
    "0.1.0": {
        TOKENIZER: "091dbbc9e116d9e01bd9060eb5e6f1dd7655a230a98ed7b0b288e2f50b2bca4a",
        GENERATOR: "5a6ac0e0a7eab0bba6dbe5e0b12da5597f75875f7a65a9121438dc1457d74e60",
    },
    "0.2.0": {
        TOKENIZER: "c1a7f0c689379154847aff60a382c54db237eb826ba217c0b98391675ce4e441",
        GENERATOR: "f85313aa3dd50a8b670170a61d13c6858fc8e710a83e1a5d534324633e3a34e1",
    },
}
"""SHA-256 of every release's, as `dcht.checkpoint.checkpoint_sha256` has them."""


def holder(sha256: str | None) -> str:
    """Where the weights of a hash are, to end a message with; empty where no release bundled them.

    >>> holder(RELEASES["0.1.0"][TOKENIZER])
    '; release 0.1.0 holds it: dcht/checkpoints/small in its wheel'
    """
    for version, bundled in RELEASES.items():
        for place, known in bundled.items():
            if known == sha256:
                return f"; release {version} holds it: {place} in its wheel"
    return ""

"""`dcar doctor`: versions, devices, weights, extras: what can run here."""

from __future__ import annotations

from typing import Any

from dcht.commands import doctor

PACKAGES = ("dcar", "dcht", "dcar-eval")
EXTRAS = {
    "dcar[app]": ("gradio", "dcar app"),
    "dcar[train]": ("hydra", "dcar-train"),
    "dcar[lora]": ("peft", "fine-tuning by LoRA"),
    **doctor.EXTRAS,
}


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    doctor.add(
        verbs, prog="dcar", package="dcar", packages=PACKAGES, extras=EXTRAS, checkpoint=_checkpoint
    )


def _checkpoint() -> str:
    from dcar.pipeline import TextToImage

    return str(TextToImage.from_pretrained().sha256)

"""What the app did, as a command and as Python: both make the same images again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcar.sampling_config import SamplingConfig
from dcht.device import Precision, pick_device

FLAGS = {
    "num_steps": "--steps",
    "cfg_scale": "--cfg",
    "temperature": "--temperature",
    "order": "--order",
}
"""The sampling settings that the app has, and their flags."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One request of the app.

    Attributes:
        prompt: as it was asked for, before the safety check.
        seed: of the first image.
        num_images: how many.
        size: (width, height) where it is not the checkpoint's own; None for edits too.
        settings: by name, those that are not the checkpoint's own.
        ckpt: the generator; None is the bundled one.
        safety: the checker of prompts, if there is one.
        safety_threshold: its own, where that is not the usual one.
        precision: of the generator and its tokenizer.
        device: where they are, as `--device` has it.
        mask: whether an edit has a mask.
        margins: of an outpainting, in pixels by side.
        strength: of an edit; None where all of the region is generated anew.
    """

    prompt: str
    seed: int
    num_images: int = 1
    size: tuple[int, int] | None = None
    settings: Mapping[str, Any]
    ckpt: str | None = None
    safety: str | None = None
    safety_threshold: float | None = None
    precision: Precision = Precision.fp32
    device: str = "cpu"
    mask: bool = False
    margins: Mapping[str, int] | None = None
    strength: float | None = None

    @property
    def edits(self) -> bool:
        """Whether an image is edited, and not only a prompt drawn from."""
        return self.mask or self.margins is not None or self.strength is not None

    def command(self) -> str:
        """For a POSIX shell; an edit's files are `photo.png` and `mask.png`."""
        asked = ["photo.png", self.prompt] if self.edits else [self.prompt]
        # Behind `--` a prompt that begins with a dash is no option.
        dashed = self.prompt.startswith("-")
        words = ["dcar", "edit" if self.edits else "generate", *([] if dashed else asked)]
        if self.mask:
            words += ["--mask", "mask.png"]
        if self.margins is not None:
            margins = (f"{side}={pixels}" for side, pixels in self.margins.items() if pixels)
            words += ["--outpaint", ",".join(margins)]
        if self.strength is not None:
            words += ["--strength", f"{self.strength:g}"]
        words += ["--seed", str(self.seed)]
        if self.num_images > 1:
            words += ["--num-images", str(self.num_images)]
        if self.size is not None:
            words += ["--size", "{}x{}".format(*self.size)]
        for name, value in self.settings.items():
            words += [FLAGS[name], str(value)]
        for flag, name in (("--ckpt", self.ckpt), ("--safety", self.safety)):
            words += [] if name is None else [flag, name]
        if self.safety_threshold is not None:
            words += ["--safety-threshold", str(self.safety_threshold)]
        for value in self.precision.noted().values():
            words += ["--precision", value]
        if self.device != pick_device("auto").type:
            words += ["--device", self.device]
        words += ["--out", "images" if self.num_images > 1 else "image.png"]
        return shlex.join([*words, *(["--", *asked] if dashed else [])])

    def python(self) -> str:
        """With the package's public calls."""
        options: dict[str, Any] = {"seed": self.seed}
        if self.num_images > 1:
            options["num_images"] = self.num_images
        if self.size is not None:
            options |= {"width": self.size[0], "height": self.size[1]}
        options |= self.settings
        loads = [] if self.ckpt is None else [repr(self.ckpt)]
        loads += [] if self.safety is None else [f"safety={self.safety!r}"]
        if self.safety_threshold is not None:
            loads.append(f"safety_threshold={self.safety_threshold}")
        loads += [f"{name}={value!r}" for name, value in self.precision.noted().items()]
        loads += [] if self.device == "cpu" else [f"device={self.device!r}"]
        if self.margins is not None:
            options |= {side: pixels for side, pixels in self.margins.items() if pixels}
            call = f"outpaint(Image.open('photo.png'), {self.prompt!r}"
        elif self.edits:
            options |= {} if self.strength is None else {"strength": self.strength}
            mask = "Image.open('mask.png')" if self.mask else "None"
            call = f"edit(Image.open('photo.png'), {mask}, {self.prompt!r}"
        else:
            call = f"({self.prompt!r}"
        arguments = "".join(f", {name}={value!r}" for name, value in options.items())
        dot = "." if self.edits else ""
        lines = ["from PIL import Image\n"] if self.edits else []
        lines += [
            "from dcar import TextToImage\n",
            f"pipe = TextToImage.from_pretrained({', '.join(loads)})",
            f"result = pipe{dot}{call}{arguments})",
            "for number, image in enumerate(result.images):",
            '    image.save(f"{number}.png")',
        ]
        return "\n".join(lines)


def changed(settings: SamplingConfig, own: SamplingConfig) -> dict[str, Any]:
    """The settings of the app that are not the checkpoint's own, as plain values."""
    found = {}
    for name in FLAGS:
        value = getattr(settings, name)
        if value != getattr(own, name):
            found[name] = value.value if hasattr(value, "value") else value
    return found


def file_name(prompt: str, seed: int, number: int) -> str:
    """A name for an image's file: the prompt's first words, the seed, and which of several."""
    words: Sequence[str] = "".join(
        c if c.isascii() and c.isalnum() else " " for c in prompt
    ).split()
    stem = "-".join(words[:8]).lower()[:60] or "image"
    return f"{stem}-{seed}-{number}.png"

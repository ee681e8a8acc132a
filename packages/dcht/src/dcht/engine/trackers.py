"""Where a run's curves and images can be watched, beside its own files.

TensorBoard writes below the run's folder and is on by default where it is installed (extra
`tensorboard`). trackio (a local page) and Weights & Biases are extras, off unless asked for; where
they keep their data and whether they go online is for their own environment variables to say.
Nothing here is imported before a tracker is opened.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dcht.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

PROJECT = "dc-ar"


class Tracker(Enum):
    """A program that shows a run's curves and images."""

    tensorboard = "tensorboard"
    trackio = "trackio"
    wandb = "wandb"


class Board(Protocol):
    """What `dcht.engine.training.RunLog` asks of a tracker."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve."""
        ...

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """Show an image."""
        ...

    def close(self) -> None:
        """Write out what is buffered."""
        ...


def open_board(tracker: Tracker, folder: Path, *, first_step: int) -> Board | None:
    """Begin, or from `first_step` continue, what `tracker` shows of the run in `folder`.

    Returns:
        None where TensorBoard, which nobody has to ask for, is not installed: it is said, and
        `metrics.jsonl` has the same numbers.

    Raises:
        UsageError: another tracker is not installed; the message names its extra.
    """
    if tracker is Tracker.tensorboard:
        if find_spec("tensorboard") is None:
            print(
                "no event files: TensorBoard is not installed (pip install 'dcht[tensorboard]')",
                file=sys.stderr,
            )
            return None
        return TensorBoard(folder / "tensorboard", first_step)
    try:
        return Service(import_module(tracker.value), folder)
    except ModuleNotFoundError as error:
        if error.name != tracker.value:
            raise
        raise UsageError(
            f"trackers={tracker.value} needs a package that is in an extra: "
            f"pip install 'dcht[{tracker.value}]'"
        ) from None


class TensorBoard:
    """Event files; a resumed run hides what an interrupted one logged from its first step on."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """Show an image."""
        import numpy as np  # here, not above: the schema of settings imports this module

        self._writer.add_image(name, np.array(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class Service:
    """trackio or wandb, whose calls are the same.

    A run's name there is its folder's with a hash of its whole path, so that a resumed run is
    found again and a folder of the same name elsewhere is another run.
    """

    def __init__(self, module: Any, folder: Path) -> None:
        whole = folder.resolve()
        name = f"{whole.name}-{hashlib.sha256(str(whole).encode()).hexdigest()[:8]}"
        known = {"id": name} if module.__name__ == Tracker.wandb.value else {}
        self._module = module
        module.init(project=PROJECT, name=name, resume="allow", **known)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve."""
        self._module.log(dict(values), step=step)

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """Show an image."""
        self._module.log({name: self._module.Image(image)}, step=step)

    def close(self) -> None:
        """Send what is left."""
        self._module.finish()

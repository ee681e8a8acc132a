"""What every training loop of the three packages needs, and nothing a loop decides.

The moving average of weights, the learning rate over time, the log, a clean stop, and the guard
against losses that are not finite. What a run leaves to resume from is `dcht.engine.run_folder`'s;
which parameters train on which loss is for `dcht.train` and its like to say.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal

import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dcht.engine.distributed import World
from dcht.engine.metrics import METRICS, drop_rows
from dcht.engine.trackers import Board, Tracker, open_board
from dcht.errors import NonFiniteLossError, UsageError, printable
from dcht.files import write_atomic
from dcht.images import save_png

PAUSE = "PAUSE"
"""While a file of this name is in a run's folder, the run waits between two steps."""
POLL_SECONDS = 1.0
SAMPLES = "samples"
"""The folder of a run for its images."""


class EMA:
    """Exponential moving average of all that a module stores, buffers included.

    The decay grows as min(decay, (1 + n) / (10 + n)) with the number of updates n, so that a short
    run is not an average over its initialization. Integer buffers are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EMA decay is {decay}; expected 0 <= decay < 1 (0.9999 is usual)")
        self.decay = decay
        self.num_updates = 0
        self.shadow = {key: value.detach().clone() for key, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's present weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        averages, values = [], []
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                averages.append(_own_part(self.shadow[key]))
                values.append(_own_part(value))
            else:
                self.shadow[key].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def copy_to(self, module: nn.Module) -> None:
        """Give the module the averaged weights."""
        module.load_state_dict(self.shadow)

    def state_dict(self) -> dict[str, Any]:
        """The averages and how many updates they hold."""
        return {"num_updates": self.num_updates, "shadow": self.shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; the keys must be this module's.

        Raises:
            ValueError: averages of another module.
        """
        if unmatched := sorted(self.shadow.keys() ^ state["shadow"].keys()):
            raise ValueError(
                f"EMA state of another module: {unmatched[0]} is in only one of the two"
            )
        for key, value in state["shadow"].items():
            if value.shape != self.shadow[key].shape:
                raise ValueError(f"EMA state of another module: {key} has another shape")
            self.shadow[key].copy_(value)
        self.num_updates = state["num_updates"]


def _own_part(tensor: Tensor) -> Tensor:
    """This rank's shard, where a tensor is in shards (FSDP2): averaging needs no other's."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def use_bf16(wanted: bool | None, device: torch.device) -> bool:
    """Whether to run in bf16 autocast: as is wanted, or, where nothing is said, on a GPU."""
    return device.type != "cpu" if wanted is None else wanted


def warmup_lr(
    step: int,
    *,
    base: float,
    warmup_steps: int,
    total_steps: int,
    final: float = 0.0,
    shape: Literal["constant", "cosine"] = "constant",
) -> float:
    """Learning rate of `step` (from 0): linear to `base`, then constant or a cosine to `final`."""
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    if shape == "constant":
        return base
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return final + (base - final) * 0.5 * (1 + math.cos(math.pi * done))


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`load_state_dict`, which looks at no shapes.

    Raises:
        ValueError: the state of other parameters.
    """
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        if any(values[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq")):
            raise ValueError("the optimizer's state has other shapes")


class RunLog:
    """A run's log: `metrics.jsonl`, images under `samples/`, and what the trackers show.

    A resumed run passes the step it starts at; what an interrupted one logged from there on is
    dropped, so that every step has one row. Of several ranks one is active; to the others every
    call is a no-op.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        first_step: int = 0,
        trackers: Collection[Tracker] = (Tracker.tensorboard,),
        active: bool = True,
    ) -> None:
        """Open the files and the trackers.

        Raises:
            UsageError: a tracker is not installed.
        """
        self.active = active
        self.folder = Path(folder)
        if not active:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        boards = (open_board(tracker, self.folder, first_step=first_step) for tracker in trackers)
        self._boards = [board for board in boards if board is not None]
        path = self.folder / METRICS
        drop_rows(path, first_step)
        self._metrics = path.open("a", buffering=1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row {"step": ..., "time": seconds since the epoch, **values}."""
        if not self.active:
            return
        row = {"step": step, "time": round(time.time(), 3), **values}
        self._metrics.write(json.dumps(row, allow_nan=False) + "\n")
        self._show(lambda board: board.scalars(step, values))

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """Write `samples/NAME-STEP.png` and show it in the trackers."""
        if not self.active:
            return
        save_png(image, self.folder / SAMPLES / f"{name}-{step:07d}.png")
        self._show(lambda board: board.image(step, name, image))

    def _show(self, call: Callable[[Board], None]) -> None:
        """Send to the trackers; one that fails (a service that is gone, say) gets nothing more."""
        for board in list(self._boards):
            try:
                call(board)
            except Exception as error:
                self._boards.remove(board)
                self.line(f"{type(board).__name__} shows nothing from here on: {error}")

    @property
    def paused(self) -> bool:
        """Whether the folder has a file PAUSE."""
        return self.active and (self.folder / PAUSE).exists()

    def line(self, text: str) -> None:
        """Print one line on stderr."""
        if self.active:
            print(printable(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Flush and close the files."""
        if not self.active:
            return
        self._metrics.close()
        self._show(lambda board: board.close())


class GracefulStop:
    """While entered, SIGTERM and Ctrl-C set `requested`; a second Ctrl-C raises.

    The loop looks at `requested` between two steps, saves, and returns; of several ranks each
    looks at `agreed`, because a signal reaches them one by one.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def agreed(self, world: World, log: RunLog) -> bool:
        """Whether any rank was asked to stop; while the run is paused, the answer waits.

        One answer, for which all ranks ask together: rank 0 looks for the file, and the others
        keep asking, so that nobody's patience with a silent rank runs out.
        """
        told = False
        while True:
            asked = torch.tensor([float(self.requested), float(log.paused)])
            stop, pause = world.sum(asked).tolist()
            if stop or not pause:
                return stop > 0
            if not told:
                log.line(f"paused for as long as {log.folder / PAUSE} exists")
                told = True
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> GracefulStop:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


class SaveClock:
    """Time since the last save, by which a long run on a machine that may go away saves too."""

    def __init__(self, minutes: float) -> None:
        self._seconds = 60 * minutes
        self.saved()

    def saved(self) -> None:
        """The run has just been saved."""
        self._last = time.monotonic()

    def due(self, world: World) -> bool:
        """Whether it should be again: rank 0's answer, for which all ranks ask together."""
        late = world.main and time.monotonic() - self._last >= self._seconds
        return bool(world.sum(torch.tensor(float(late))) > 0)


def finite_or_stop(
    losses: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    folder: str | Path,
    step: int,
    *,
    world: World | None = None,
) -> None:
    """Raise if a loss is not finite, after saving the batch that made it.

    Call before the optimizer steps: the weights that the guard leaves behind are still good.
    Several ranks give losses that are the same on all of them, and each its part of the batch.

    Raises:
        NonFiniteLossError: names the losses and `nonfinite-STEP.safetensors`, or why the batch
            could not be kept there.
    """
    values = torch.stack([value.detach().float() for value in losses.values()])
    if bool(values.isfinite().all()):
        return
    unmatched = {
        name: float(value)
        for name, value in zip(losses, values, strict=True)
        if not value.isfinite()
    }
    path = Path(folder) / f"nonfinite-{step:07d}.safetensors"
    whole = {key: value if world is None else world.gather(value) for key, value in batch.items()}
    kept = f"the batch is in {path}"
    if world is None or world.main:
        batch = {key: value.detach().contiguous().cpu() for key, value in whole.items()}
        try:
            write_atomic(path, save(batch))
        except UsageError as error:
            kept = f"the batch is lost: {error}"
    raise NonFiniteLossError(f"step {step}: losses are not finite: {unmatched}; {kept}")

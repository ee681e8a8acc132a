"""What the command lines of all three packages share: exit codes, devices and sizes.

Exit codes: 0 ok, 2 usage or bad input, 3 done but some inputs were skipped, 4 bad checkpoint,
130 interrupted. Nothing here imports torch at import time, so that `--help` stays instant.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from dcht.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    import torch

OK, USAGE, SKIPPED, BAD_CHECKPOINT, INTERRUPTED = 0, 2, 3, 4, 130


def run(main: Callable[[], int]) -> NoReturn:
    """Call `main`, exit with its code; what a user can act on is one line on stderr."""
    try:
        code = main()
        sys.stdout.flush()
    except UsageError as error:
        code = _fail(error, USAGE)
    except CheckpointError as error:
        code = _fail(error, BAD_CHECKPOINT)
    except KeyboardInterrupt:
        code = _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader (`head`, say) went away: not an error. Python would complain once more while
        # flushing at exit, so stdout is pointed elsewhere first.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    sys.exit(code)


def _fail(message: object, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def pick_device(name: str) -> torch.device:
    """Return the device called `name`: `auto` (the best there is), `cpu`, `cuda[:n]` or `mps`."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r} is not known; use auto, cpu, cuda or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {name!r} is not available here; use auto or cpu")
    return device


def parse_size(text: str) -> tuple[int, int]:
    """Read `256` or `512x384` (width x height) as (width, height), both multiples of 32."""
    words = text.lower().split("x")
    if len(words) not in (1, 2) or not all(word.isdecimal() for word in words):
        raise UsageError(f"size {text!r} is not N or WxH; for example 256 or 512x384")
    width, height = (int(words[0]), int(words[-1]))
    for side in (width, height):
        if side == 0 or side % 32:
            nearest = max(32, round(side / 32) * 32)
            raise UsageError(f"size {side} is not a multiple of 32; the nearest is {nearest}")
    return width, height

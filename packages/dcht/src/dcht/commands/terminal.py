"""The terminal: streams that can be written whatever they are, color, and a word while loading."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class _Messages(io.FileIO):
    """Stderr: what cannot be written there (a full disk, a reader that left) stops no work."""

    def write(self, content: Any) -> int:
        with suppress(OSError):
            return super().write(content)
        return len(content)


def ready_streams() -> None:
    """Make stdin, stdout and stderr something that can be read and written.

    One that was closed (`>&-`) becomes the null device: a file that is opened later would otherwise
    get its number, and be written by whatever prints. A character that the terminal's encoding does
    not have is shown by its escape. What stderr cannot take is lost, and no error.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                null = os.open(os.devnull, os.O_RDWR)
                if null != number:
                    os.dup2(null, number)
                    os.close(null)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    if sys.stderr is sys.__stderr__:
        messages = io.BufferedWriter(_Messages(sys.stderr.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(messages, sys.stderr.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_stdout() -> None:
    """Point stdout elsewhere: Python would complain once more while flushing it at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def in_color(stream: TextIO) -> bool:
    """Whether to write in color: to a terminal that has it, unless `NO_COLOR` is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextmanager
def loading() -> Iterator[None]:
    """Say on a terminal that torch and the weights are being loaded, until they are."""
    if not sys.stderr.isatty():
        yield
        return
    print("loading ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\r           \r", end="", file=sys.stderr, flush=True)

"""What a command does to files, counted; and the end of it at the k-th.

An event is a file opened to be written, a write, a sync, a rename, a removal, a folder made or
removed, below one folder. At the k-th of them the process is killed, or all of its group, as by a
power cut or an operator: before it happens, a write after its first half.

Nothing here is imported from the project, so that it can be installed before anything is.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import sys
from typing import Any

WATCH = "KILLS_WATCH"
"""The folder below which events count."""
LOG = "KILLS_LOG"
"""A file that gets a byte an event, from all processes: its size counts them."""
AT = "KILLS_AT"
"""The event at which it ends; 0: none."""
ALONE = "KILLS_ALONE"
"""`1`: the process that comes to that event; else its group."""

OPEN, WRITE, SYNC, RENAME, REMOVE, FOLDER = "owsrdf"
AUDITED = {
    "os.rename": RENAME, "os.link": RENAME, "os.symlink": RENAME,
    "os.remove": REMOVE, "os.truncate": WRITE, "os.mkdir": FOLDER, "os.rmdir": FOLDER,
}  # fmt: skip
"""`os.replace` is audited as a rename, `os.unlink` as a removal."""
TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Events:
    """Counts, and kills."""

    def __init__(self, watch: str, log: str, at: int, *, alone: bool) -> None:
        self.watch, self.at, self.alone = os.path.join(watch, ""), at, alone
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def watches(self, path: Any) -> bool:
        """Whether a path is below the folder."""
        if isinstance(path, int):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.watch)

    def count(self, kind: str) -> bool:
        """One more; whether it is the last."""
        os.write(self.log, kind.encode())
        now = os.fstat(self.log).st_size
        return self.at > 0 and (now == self.at if self.alone else now >= self.at)

    def happens(self, kind: str, path: Any) -> None:
        """One more, if it is below the folder; the last one does not happen."""
        if self.watches(path) and self.count(kind):
            self.end()

    def end(self) -> None:
        """Kill this process, or all of its group."""
        if self.alone:
            os.kill(os.getpid(), signal.SIGKILL)
        os.killpg(0, signal.SIGKILL)


def install() -> Events | None:
    """Watch this process from now on, as its environment says."""
    if WATCH not in os.environ:
        return None
    given = os.environ
    events = Events(given[WATCH], given[LOG], int(given[AT]), alone=given[ALONE] == "1")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & TO_WRITE:
                events.happens(OPEN, path)
        elif event in AUDITED:
            events.happens(AUDITED[event], arguments[0])

    class Watched(io.FileIO):
        """A file whose writes count; the last one is cut in half."""

        def write(self, content: Any) -> int:
            if events.count(WRITE):
                super().write(bytes(content)[: len(content) // 2])
                events.end()
            return super().write(content)

    real_open, real_sync = io.open, os.fsync

    def watched_open(
        file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
        errors: str | None = None, newline: str | None = None, closefd: bool = True,
        opener: Any = None,
    ) -> Any:  # fmt: skip
        if not set(mode) & set("wax+") or isinstance(file, int) or not events.watches(file):
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Watched(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)

    def watched_sync(file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        events.happens(SYNC, os.readlink(f"/proc/self/fd/{number}"))
        real_sync(file)

    sys.addaudithook(hook)
    io.open = builtins.open = watched_open  # type: ignore[assignment]
    os.fsync = watched_sync
    return events

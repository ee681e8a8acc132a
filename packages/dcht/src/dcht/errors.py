"""The failures a user can act on; a command turns each into one line and an exit code."""

from __future__ import annotations

MAX_SHOWN = 2000
"""Characters of a text from outside that are shown: an error is a line, not a page."""


class UsageError(ValueError):
    """Bad input or usage: the message says what was wrong, the value, and what would be right."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not the one that was asked for."""


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message names the file that holds the batch."""


def printable(text: object) -> str:
    r"""A text for one line of a terminal, whatever it holds.

    Names of files, members of archives and records come from outside: control characters would move
    the cursor, forge lines or set the window's title. They are shown as Python writes them
    (`\x1b`, `\n`), as are lone surrogates (bytes of a name that is no UTF-8) and the invisible
    marks that turn the direction of writing.
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)
    )
    return shown if len(shown) <= MAX_SHOWN else f"{shown[: MAX_SHOWN - 1]}…"

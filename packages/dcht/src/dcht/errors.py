"""The failures a user can act on; a command turns each into one line and an exit code."""


class UsageError(ValueError):
    """Bad input or usage: the message says what was wrong, the value, and what would be right."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not the one that was asked for."""


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message names the file that holds the batch."""

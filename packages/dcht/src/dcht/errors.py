"""The two kinds of failure a user can act on; a command turns each into its own exit code."""


class UsageError(ValueError):
    """Bad input or usage: the message says what was wrong, the value, and what would be right."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not the one that was asked for."""

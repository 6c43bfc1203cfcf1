"""Errors that end a training run."""


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; the previous one is intact."""

"""What can end a run other than its last step."""


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; the previous one is intact."""

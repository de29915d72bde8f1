"""The two ways a command may end badly; everything else is a bug and keeps its traceback."""


class BadInput(Exception):
    """What the user gave cannot work; the message is one sentence with the fix (exit code 2)."""


class RunFailed(Exception):
    """The experiment could not go on, such as when every client failed (exit code 1)."""

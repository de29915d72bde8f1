"""The two ways a command may end badly; everything else is a bug and keeps its traceback."""


class BadInput(Exception):
    """What the user gave cannot work; the message is one sentence that says how to mend it (exit code 2)."""


class RunFailed(Exception):
    """The experiment started and could not go on, such as when every client failed (exit code 1)."""

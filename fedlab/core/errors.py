"""The two ways a command may end badly; everything else is a bug and keeps its traceback."""

import difflib
from collections.abc import Iterable


class BadInput(Exception):
    """What the user gave cannot work; the message is one sentence with the fix (exit code 2)."""


class RunFailed(Exception):
    """The experiment could not go on, such as when every client failed (exit code 1)."""


def nearest(word: str, known: Iterable[str], *, listed: Iterable[str] | None = None) -> str:
    """The end of a sentence about a word that is not known.

    Args:
        word: What was written.
        known: What could have been.
        listed: What to name if nothing is near; all that is known unless given.

    Example:
        >>> nearest("lrr", ["lr", "momentum"])
        'did you mean "lr"?'
        >>> nearest("x", ["lr", "momentum"])
        'known: lr, momentum'
    """
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(listed or known)}"

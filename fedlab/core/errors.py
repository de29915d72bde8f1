"""The two errors that users see as one sentence; any other exception is a bug with a traceback."""

import difflib
from collections.abc import Iterable


class BadInput(Exception):
    """Input that cannot work; the message is one sentence with the fix (exit code 2)."""


class RunFailed(Exception):
    """A run that cannot continue, such as when every client failed (exit code 1)."""


def nearest(word: str, known: Iterable[str], *, listed: Iterable[str] | None = None) -> str:
    """Write the end of a sentence about an unknown word: the nearest known one, or all of them.

    Args:
        word: Unknown word.
        known: Known words.
        listed: Words to list if no known word is near; all known ones by default.

    Example:
        >>> nearest("lrr", ["lr", "momentum"])
        'did you mean "lr"?'
        >>> nearest("x", ["lr", "momentum"])
        'known: lr, momentum'
    """
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(listed or known)}"

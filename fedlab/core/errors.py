"""The two errors that users see as one sentence; any other exception is a bug with a traceback.

``views.register_in_notebook`` shortens them in notebooks, where ``%tb`` shows the whole traceback.
"""

import difflib
import re
from collections.abc import Iterable

MOST_HINTS = 3
"""Largest number of known words that a hint names."""
SAME_WORD = 0.8
"""Least similarity, from 0 to 1, of a word that is spelt with other separators."""
SAME_PART = 0.65
"""Least similarity of two spellings of a part: ``leaky`` and ``leaking`` have 0.67, ``scale`` and
``share`` 0.6."""


class BadInput(Exception):
    """Input that cannot work; the message is one sentence with the fix (exit code 2)."""


class RunFailed(Exception):
    """A run that cannot continue, such as when every client failed (exit code 1)."""


def nearest(word: str, known: Iterable[str], *, listed: Iterable[str] | None = None) -> str:
    """Write the end of a sentence about an unknown word: the known one it stands for, or all.

    A known word is named if it begins with the unknown one, or if each of its parts is a likely
    spelling of the part in the same place: a word that shares a part with another, as
    ``secure_noise`` does with ``dp_noise``, usually means something else.

    Args:
        word: Unknown word.
        known: Known words.
        listed: Words to list if no known word is near; all known ones by default.

    Example:
        >>> nearest("lrr", ["lr", "momentum"])
        'did you mean "lr"?'
        >>> nearest("noise", ["secure_noise", "noise_multiplier"])
        'did you mean "noise_multiplier"?'
        >>> nearest("x", ["lr", "momentum"])
        'known: lr, momentum'
    """
    known = list(known)
    begun = [each for each in known if each.lower().startswith(word.lower())]
    if len(word) > 1 and 0 < len(begun) <= MOST_HINTS:
        named = " or ".join(f'"{each}"' for each in begun)
        return f"did you mean {named}?"
    alike = [each for each in known if _alike(word.lower(), each.lower())]
    if alike:
        return f'did you mean "{max(alike, key=lambda each: _ratio(word, each))}"?'
    return f"known: {', '.join(listed or known)}"


def _alike(word: str, known: str) -> bool:
    """True if one word is a likely misspelling of the other."""
    parts, others = (re.split(r"[-_.\s]+", each) for each in (word, known))
    if len(parts) != len(others):
        return _ratio(word, known) >= SAME_WORD
    return all(_ratio(a, b) >= SAME_PART for a, b in zip(parts, others, strict=True))


def _ratio(word: str, known: str) -> float:
    return difflib.SequenceMatcher(None, word, known).ratio()

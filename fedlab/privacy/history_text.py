"""A privacy history as text: clients send it whole, and both sides remember the last one."""

from collections import OrderedDict
from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from fedlab.privacy.folds import Fold
from fedlab.privacy.release import History, PrivacyRelease

MOST_KEPT = 256
"""Number of histories that are remembered: one for each of so many clients."""

KEPT = range(9, 2_001)
"""Numbers of entries of histories that ``to_json`` remembers: others are quick, or too large."""

LONGEST_KEPT = 250_000
"""Number of characters above which ``from_json`` remembers none: some 2,000 entries."""

_HISTORY = TypeAdapter(History)

_READ: OrderedDict[str, History] = OrderedDict()


def to_json(history: Sequence[PrivacyRelease]) -> str:
    """Write a history as strict JSON, in which infinite values are strings."""
    return _written.of(tuple(history))


def _with_text(text: str, participation: History) -> str:
    more = ",".join(entry.json for entry in participation)
    return f"[{more}]" if text == "[]" else f"{text[:-1]},{more}]"


_written = Fold("[]", _with_text, most=MOST_KEPT, lengths=KEPT)


def from_json(text: str) -> History:
    """Read a history that ``to_json`` wrote.

    A history that goes on from one that was read lately shares its entries, so that reading it
    takes no longer in later rounds.

    Raises:
        ValueError: If the text is no such history.
    """
    history = _continued(text)
    if history is None:
        history = _validated(text)
    if len(text) <= LONGEST_KEPT:
        _READ[text] = history
        _READ.move_to_end(text)
        if len(_READ) > MOST_KEPT:
            _READ.popitem(last=False)
    return history


def _continued(text: str) -> History | None:
    """The history, if it is one that was read lately and at most a few entries more."""
    end = len(text)
    for _ in range(4):
        whole = text if end == len(text) else text[:end] + "]"
        if (known := _READ.get(whole)) is not None:
            if end == len(text):
                return known
            del _READ[whole]  # nobody reads it again, and together they would take much memory
            return (*known, *_validated("[" + text[end + 1 :]))
        end = text.rfind("},{", 0, end) + 1
        if not end:
            return None
    return None


def _validated(text: str) -> History:
    try:
        return _HISTORY.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise ValueError(f"no accountant history: {where}: {first['msg']}") from error

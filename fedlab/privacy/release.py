"""What one participation of one client costs in privacy, as a fact that may travel."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import groupby
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

Mechanism = Literal["none", "dp-sgd", "dp-instahide", "clip-noise", "leakage-gate"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PrivacyRelease:
    """One mechanism that a client ran in one round; checked, since it comes over the wire.

    Attributes:
        round: Counted from 1.
        participation: Counted from 0 over the client's life; a round that is run again is another
            one, and the entries of one participation stand together.
        mechanism: ``none`` for an open participation.
        clipping_norm: Largest L2 norm of one example's gradient (DP-SGD) or of the update
            (clip-noise).
        next_clipping_norm: DP-SGD with adaptive clipping: the bound that the round ended with.
        noise_multiplier: Noise standard deviation over the clipping norm.
        sample_rate: DP-SGD: probability that an example joins a batch. 1 for clip-noise.
        steps: Number of noisy gradients or updates released. DP-InstaHide: mixed records released.
        epsilon: DP-InstaHide: formal epsilon of the round; ``None`` where there is no bound.
        release: DP-InstaHide: which frozen set of records it was; the same set costs once.
        fixed_batch: DP-SGD: whether batches have a fixed size, so that one example more or less may
            replace another.
    """

    round: Annotated[int, Field(ge=1)]
    participation: Annotated[int, Field(ge=0)]
    mechanism: Mechanism
    clipping_norm: float | None = Field(default=None, gt=0)
    next_clipping_norm: float | None = Field(default=None, gt=0)
    noise_multiplier: float | None = Field(default=None, ge=0)
    sample_rate: float | None = Field(default=None, gt=0, le=1)
    steps: int | None = Field(default=None, ge=0)
    epsilon: float | None = Field(default=None, ge=0)
    release: str | None = None
    fixed_batch: bool | None = None


History = tuple[PrivacyRelease, ...]

_HISTORY = TypeAdapter(History)


def to_json(history: Sequence[PrivacyRelease]) -> str:
    """A client's history as text; infinite values as strings, so that it is strict JSON."""
    return f"[{','.join(map(_row, history))}]"


@lru_cache(maxsize=65_536)  # the same entries are written again in every later round
def _row(entry: PrivacyRelease) -> str:
    row = {
        name: "inf" if value == math.inf else value
        for name, value in asdict(entry).items()
        if value is not None
    }
    return json.dumps(row, separators=(",", ":"))


def from_json(text: str) -> History:
    """Read what ``to_json`` wrote.

    Raises:
        ValueError: If the text is anything else.
    """
    try:
        return _HISTORY.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise ValueError(f"no accountant history: {where}: {first['msg']}") from error


def participations(history: History) -> list[History]:
    """A history in parts: the entries of each participation, in order."""
    return [tuple(group) for _, group in groupby(history, lambda entry: entry.participation)]


def before_last(history: History) -> History:
    """A history without the entries of its last participation."""
    return tuple(e for e in history if e.participation != history[-1].participation)


def next_participation(history: History) -> int:
    """The number of the participation that comes after a history."""
    return history[-1].participation + 1 if history else 0


def longer(one: History, other: History) -> History:
    """The longer of two histories of the same client.

    A client and the server may each know more than the other after a crash; one must then
    continue the other.

    Raises:
        ValueError: If they disagree, since no honest total can be given then.
    """
    short, long = sorted((one, other), key=len)
    if long[: len(short)] != short:
        raise ValueError(
            "the client's accountant history and the server's disagree, so no total epsilon "
            "would be right; start the experiment anew"
        )
    return long

"""The privacy cost of one participation of one client, as an entry of its history."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import groupby
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

Mechanism = str
"""``none`` for an open release, or the name of the defense that made the release."""

Unit = Literal["example", "client"]
"""What an epsilon protects: one example of a client, or all of a client's data."""

OPEN = "none"
"""Mechanism of a participation that nothing protects."""

KNOWN: frozenset[Mechanism] = frozenset(
    {OPEN, "dp-sgd", "dp-instahide", "clip-noise", "leakage-gate"}
)
"""Mechanisms whose unit and adjacency are settled; any other entry has to state its own."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PrivacyRelease:
    """The release of one mechanism in one round; validated, because it comes over the network.

    Attributes:
        round: Round number, counted from 1.
        participation: Number of earlier participations of the client. A round that is run again is
            another participation, and the entries of one participation stand together.
        mechanism: ``none`` for an open participation, otherwise the name of the defense.
        clipping_norm: Largest L2 norm of one example's gradient (DP-SGD) or of the update
            (clip-noise).
        next_clipping_norm: DP-SGD with adaptive clipping: the bound at the end of the round.
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        sample_rate: DP-SGD: probability that an example joins a batch. 1 for clip-noise.
        steps: Number of noisy gradients or updates released. DP-InstaHide: mixed records released.
        epsilon: Epsilon of this release, which adds up over releases (DP-InstaHide, and foreign
            defenses without Gaussian noise); ``None`` where there is no bound.
        release: DP-InstaHide: name of the frozen set of records; the same set costs once.
        fixed_batch: DP-SGD: whether batches have a fixed size, so that one example more or less may
            replace another.
        unit: What the epsilon protects, for a mechanism that is not built in.
        adjacency: How neighbouring data sets differ, for a mechanism that is not built in.
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
    unit: Unit | None = None
    adjacency: str | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _check_unit(self) -> Self:
        stated = self.unit is not None and self.adjacency is not None
        if self.mechanism not in KNOWN and not stated:
            raise ValueError(
                f"mechanism {self.mechanism!r} states no unit and adjacency, so its epsilon would "
                "say nothing"
            )
        composed = self.sample_rate is not None and self.steps is not None
        if self.mechanism not in KNOWN and self.noise_multiplier is not None and not composed:
            raise ValueError(
                f"mechanism {self.mechanism!r} states noise without sample_rate and steps"
            )
        return self


History = tuple[PrivacyRelease, ...]

_HISTORY = TypeAdapter(History)


def to_json(history: Sequence[PrivacyRelease]) -> str:
    """A client's history as strict JSON; infinite values are strings."""
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
    """The entries of each participation, in order."""
    return [tuple(group) for _, group in groupby(history, lambda entry: entry.participation)]


def before_last(history: History) -> History:
    """A history without the entries of its last participation."""
    return tuple(e for e in history if e.participation != history[-1].participation)


def next_participation(history: History) -> int:
    """Number of the participation that follows a history."""
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

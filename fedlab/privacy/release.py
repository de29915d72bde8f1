"""Privacy history of a client: one entry per mechanism and participation."""

import json
import math
import zlib
from dataclasses import fields
from functools import cached_property
from itertools import groupby, zip_longest
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

Mechanism = str
"""Name of the defense that made a release, or ``none`` for an open release."""

Unit = Literal["example", "client"]
"""Unit that an epsilon protects: one example of a client, or all data of a client."""

OPEN = "none"
"""Mechanism of an unprotected participation."""

MOST = 10**12
"""Largest number of rounds, participations or steps of an entry; larger ones are no real cost."""

LARGEST = 1e30
"""Largest clipping norm, noise multiplier or sensitivity of an entry, whose square is finite."""

LONGEST = 200
"""Largest number of characters of a text in an entry."""

KNOWN: frozenset[Mechanism] = frozenset(
    {OPEN, "dp-sgd", "dp-instahide", "clip-noise", "leakage-gate"}
)
"""Mechanisms of built-in defenses; entries of any other mechanism state unit and adjacency."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PrivacyRelease:
    """The release of one mechanism in one round. It is validated, since clients send it.

    Attributes:
        round: Round number, counted from 1.
        participation: Number of earlier participations of the client. A repeated round is another
            participation. Entries of one participation are consecutive.
        mechanism: Name of the defense, or ``none`` for an unprotected participation.
        clipping_norm: Largest L2 norm of one example's gradient (DP-SGD) or of the update
            (clip-noise).
        next_clipping_norm: Clipping norm at the end of the round; DP-SGD with adaptive clipping
            only.
        noise_multiplier: Standard deviation of the noise divided by the clipping norm, at least 0.
        sample_rate: Probability, in (0, 1], that an example joins a batch of DP-SGD; 1 for
            clip-noise.
        steps: Number of noisy gradients or updates, or of mixed records (DP-InstaHide).
        epsilon: Epsilon of this release, which adds up over releases (DP-InstaHide, and foreign
            defenses without Gaussian noise); ``None`` if there is no bound.
        release: Name of the frozen set of records (DP-InstaHide); releases of one name cost once.
        fixed_batch: True if batches of DP-SGD have a fixed size, so that an added example replaces
            another; ``None`` for Poisson batches.
        unit: Unit that the epsilon protects; only for a mechanism that is not built in.
        adjacency: Difference between neighbouring data sets; only for a mechanism that is not built
            in.
        sensitivity: Largest L2 distance between two neighbouring releases before the noise, in
            units of the clipping norm; only for Gaussian noise of a mechanism that is not built in.
        needs_public_labels: True if the epsilon protects images given their labels only; only for a
            mechanism that is not built in.
        shared_by: Smallest number of clients of a secure sum whose noise together has the noise
            multiplier; ``None`` where the client adds all of it.
        void: Reason why the mechanism's epsilon does not hold in this round, which then counts as
            unprotected; ``None`` if it holds.
    """

    round: Annotated[int, Field(ge=1, le=MOST)]
    participation: Annotated[int, Field(ge=0, le=MOST)]
    mechanism: Annotated[Mechanism, Field(min_length=1, max_length=LONGEST)]
    clipping_norm: float | None = Field(default=None, gt=0, le=LARGEST)
    next_clipping_norm: float | None = Field(default=None, gt=0, le=LARGEST)
    noise_multiplier: float | None = Field(default=None, ge=0, le=LARGEST)
    sample_rate: float | None = Field(default=None, gt=0, le=1)
    steps: int | None = Field(default=None, ge=0, le=MOST)
    epsilon: float | None = Field(default=None, ge=0)
    release: str | None = Field(default=None, min_length=1, max_length=LONGEST)
    fixed_batch: bool | None = None
    unit: Unit | None = None
    adjacency: str | None = Field(default=None, min_length=1, max_length=LONGEST)
    sensitivity: float | None = Field(default=None, gt=0, le=LARGEST)
    needs_public_labels: bool | None = None
    shared_by: int | None = Field(default=None, ge=2, le=MOST)
    void: str | None = Field(default=None, min_length=1, max_length=LONGEST)

    @model_validator(mode="after")
    def _check_unit(self) -> Self:
        stated = self.unit is not None and self.adjacency is not None
        if self.mechanism not in KNOWN and not stated:
            raise ValueError(
                f"mechanism {self.mechanism!r} states no unit and adjacency, so its epsilon has no "
                "meaning"
            )
        composed = self.sample_rate is not None and self.steps is not None
        if self.mechanism not in KNOWN and self.noise_multiplier is not None and not composed:
            raise ValueError(
                f"mechanism {self.mechanism!r} states noise without sample_rate and steps"
            )
        return self

    @cached_property
    def json(self) -> str:
        """The entry as strict JSON, written once: every later round sends the same entries."""
        row = {
            name: "inf" if value == math.inf else value
            for name in _FIELDS
            if (value := getattr(self, name)) is not None
        }
        return _encode(row)

    @cached_property
    def _hash(self) -> int:
        # Not Python's hash of a text, which differs in another process that unpickles the entry.
        return zlib.crc32(self.json.encode())

    def __hash__(self) -> int:
        """Computed once, since whole histories are looked up in every round."""
        return self._hash


_encode = json.JSONEncoder(separators=(",", ":")).encode

_FIELDS = tuple(field.name for field in fields(PrivacyRelease))

History = tuple[PrivacyRelease, ...]
"""Privacy history of one client: its entries in order of participation."""


def participations(history: History) -> list[History]:
    """Group a history by participation, in order."""
    return [tuple(group) for _, group in groupby(history, lambda entry: entry.participation)]


def before_last(history: History) -> History:
    """Return a history without its last participation."""
    end = len(history)
    while end and history[end - 1].participation == history[-1].participation:
        end -= 1
    return history[:end]


def next_participation(history: History) -> int:
    """Return the number of the participation that follows a history."""
    return history[-1].participation + 1 if history else 0


def longer(own: History, servers: History) -> History:
    """Return the longer of two histories of the same client, its own and the server's.

    After a crash or a lost reply, the client or the server may lack the last participations. A
    participation that the server counts as unprotected, since it did not believe what arrived,
    counts so for the client as well.

    Args:
        own: History that the client has kept.
        servers: History of the client as the server has it.

    Raises:
        ValueError: If the histories contradict each other otherwise, since no total would then be
            correct.
    """
    found: list[PrivacyRelease] = []
    groups = zip_longest(participations(own), participations(servers), fillvalue=())
    for mine, theirs in groups:
        if mine == theirs or not theirs:
            found += mine
        elif not mine or [entry.mechanism for entry in theirs] == [OPEN]:
            found += theirs
        else:
            raise ValueError(
                "the client's accountant history and the server's disagree, so no total epsilon "
                "would be correct; start the experiment anew"
            )
    return tuple(found)

"""A client's reply: everything that may travel back, and the checks of what arrives.

Nothing in a reply is trusted. Records, names, shapes, types and sizes are checked before a tensor
is read, and nothing is ever unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from torch import Tensor

from attacks.payload import Payload
from fedlab.core.plain_text import plain_text
from fedlab.privacy.history_text import from_json, to_json
from fedlab.privacy.release import History
from fedlab.protocol.abstention import Abstention
from fedlab.protocol.arrays import record_of, tensor_of

PAYLOAD = "payload"
"""Record of arrays: the gradient or the weights by parameter name."""
BUFFERS = "buffers"
"""Record of arrays: BatchNorm statistics, only where the scenario shares them."""
FACTS = "facts"
"""Record of metrics: the two numbers below."""
NUM_EXAMPLES = "num-examples"
STEPS = "steps"
DECLARED = "declared"
"""Record of settings: the kind of the payload and the client's privacy history as JSON; of a client
that abstains, ``ABSTAINS`` for the kind, and the reason."""
KIND = "kind"
HISTORY = "history"
ABSTAINS = "declined"
STATUS = "status"
REASON = "reason"

MOST_EXAMPLES = 10**9
"""Largest number of examples or steps that any client is believed."""

LARGEST = 1e15
"""Largest absolute value in a payload: what a few clients send of this size can be squared and
summed in single precision."""

LONGEST_HISTORY = 1_000_000
"""Largest number of characters by which a declared history may exceed the one known before."""

Kind = Literal["gradient", "weights"]
"""Content of a payload."""


class Refused(ValueError):
    """A reply that cannot be used; the message says why in a few words."""


@dataclass(frozen=True)
class Expected:
    """Names, shapes and limits that every reply of a round is checked against.

    Attributes:
        parameters: Global parameters by name.
        buffers: Buffers that clients send back, by name; empty if they send none.
        max_examples: Largest number of examples that a client may claim; ``None`` for no limit.
    """

    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    max_examples: int | None


@dataclass(frozen=True)
class Reply:
    """One client's reply in a round: its update, or an abstention.

    Attributes:
        history: Privacy history of the client, this round included.
        payload: Gradient or weights; ``None`` if the client abstains.
        buffers: BatchNorm statistics by name; empty unless the scenario shares them.
        abstention: Why the client sends no payload; ``None`` if it sends one.
    """

    history: History
    payload: Payload | None = None
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    abstention: Abstention | None = None

    @property
    def sent(self) -> Payload:
        """The payload of a client that did not abstain.

        Raises:
            ValueError: If the client abstained.
        """
        if self.payload is None:
            raise ValueError(f"the client sent nothing: {self.abstention}")
        return self.payload

    def to_record(self) -> RecordDict:
        """Write the reply as records of a Flower message."""
        declared: dict[str, str] = {HISTORY: to_json(self.history)}
        if self.abstention is not None:
            declared |= {
                KIND: ABSTAINS,
                STATUS: self.abstention.status,
                REASON: self.abstention.reason,
            }
            return RecordDict({DECLARED: ConfigRecord({**declared})})
        payload = self.sent
        content = RecordDict(
            {
                PAYLOAD: _arrays(payload.tensors),
                FACTS: MetricRecord({NUM_EXAMPLES: payload.num_examples, STEPS: payload.steps}),
                DECLARED: ConfigRecord({**declared, KIND: payload.kind}),
            }
        )
        if self.buffers:
            content[BUFFERS] = _arrays(self.buffers)
        return content

    @classmethod
    def from_record(
        cls, content: RecordDict, *, kind: Kind, expected: Expected, known: History = ()
    ) -> Reply:
        """Check the records of a message and read the reply in them.

        Args:
            content: Records as they arrived.
            kind: Kind of payload that the client was asked for.
            expected: The shapes and limits against which the reply is checked.
            known: Privacy history of the client that the server has.

        Raises:
            Refused: If anything about the reply is wrong.
        """
        if abstention := read_abstention(content):
            return cls(history=read_history(content, known), abstention=abstention)
        wanted = {PAYLOAD, FACTS, DECLARED} | ({BUFFERS} if expected.buffers else set())
        if set(content) != wanted:
            raise Refused(f"it holds {sorted(content)[:9]} instead of {sorted(wanted)}")
        facts = _read_facts(content, expected.max_examples)
        declared = _declaration(content)
        if set(declared) != {KIND, HISTORY}:
            raise Refused(f"its declaration cannot be read: it is not {KIND} and {HISTORY}")
        if declared[KIND] != kind:
            raise Refused(f"it sent {declared[KIND]!s} where {kind} was asked for")
        return cls(
            history=read_history(content, known),
            payload=Payload(
                kind,
                _read_tensors(content[PAYLOAD], expected.parameters),
                num_examples=facts[NUM_EXAMPLES],
                steps=facts[STEPS],
            ),
            buffers=_read_tensors(content[BUFFERS], expected.buffers) if expected.buffers else {},
        )


def read_abstention(content: RecordDict) -> Abstention | None:
    """Read why a client sends no payload; ``None`` if it does not abstain.

    Raises:
        Refused: If the reason cannot be read.
    """
    declared = _declaration(content)
    if declared.get(KIND) != ABSTAINS:
        return None
    if set(content) != {DECLARED} or set(declared) != {KIND, HISTORY, STATUS, REASON}:
        raise Refused("it declined, but sent more than its reason")
    status, reason = declared[STATUS], declared[REASON]
    if status not in ("budget", "withheld") or not isinstance(reason, str):
        raise Refused(f"it declined for no known reason: {status!s}")
    return Abstention("budget" if status == "budget" else "withheld", plain_text(reason))


def read_history(content: RecordDict, known: History) -> History:
    """Read the privacy history that a reply declares, whatever else is wrong with the reply.

    Args:
        content: Records as they arrived.
        known: History that the server has, of which the declared one should be a continuation.

    Raises:
        Refused: If the history cannot be read, or is far longer than the known one.
    """
    text = _declaration(content).get(HISTORY)
    if not isinstance(text, str):
        raise Refused("its declaration cannot be read: it has no accountant history")
    before = to_json(known)
    if len(text) > 4 * len(before) + LONGEST_HISTORY:
        raise Refused(f"its accountant history has {len(text)} characters, which nobody believes")
    try:
        if known and text.startswith(before[:-1] + ","):  # known entries need not be read again
            return (*known, *from_json("[" + text[len(before) :]))
        return from_json(text)
    except ValueError as error:
        raise Refused(f"its declaration cannot be read: {error}") from error


def carries_data(content: RecordDict) -> bool:
    """True if a reply contains anything, even unreadable, that may depend on images."""
    declared = _declaration(content)
    return not set(content) <= {DECLARED} or declared.get(STATUS) == "withheld"


def _declaration(content: RecordDict) -> ConfigRecord:
    found = content.get(DECLARED)
    return found if isinstance(found, ConfigRecord) else ConfigRecord()


def _arrays(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Write copies, since a defense may keep its tensors and use them again."""
    copies = {n: t.clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
    return record_of(copies)


def _read_facts(content: RecordDict, most: int | None) -> dict[str, int]:
    record = content[FACTS]
    if not isinstance(record, MetricRecord) or set(record) != {NUM_EXAMPLES, STEPS}:
        raise Refused(f"its facts are not {NUM_EXAMPLES} and {STEPS}")
    facts = {}
    for name, value in record.items():
        if not isinstance(value, int) or not 1 <= value <= MOST_EXAMPLES:
            raise Refused(f"{name} is {value!r}, not a whole number from 1 to {MOST_EXAMPLES}")
        facts[name] = value
    if most is not None and facts[NUM_EXAMPLES] > most:
        raise Refused(f"it claims {facts[NUM_EXAMPLES]} examples, more than {most} are believed")
    return facts


def _read_tensors(record: object, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(record, ArrayRecord):
        raise Refused("its arrays are no ArrayRecord")
    if len(record) != len(expected):
        raise Refused(f"it sent {len(record)} tensors instead of {len(expected)}")
    if set(record) != set(expected):
        unknown = sorted(set(record) - set(expected))
        raise Refused(f"it sent tensors that the model does not have: {', '.join(unknown)}")
    tensors = {}
    for name, like in expected.items():
        tensor = _read_tensor(record[name], name, most=like.numel() * like.element_size())
        if tensor.shape != like.shape:
            raise Refused(f"{name} has shape {tuple(tensor.shape)} instead of {tuple(like.shape)}")
        if tensor.dtype != like.dtype:
            raise Refused(f"{name} is {tensor.dtype} instead of {like.dtype}")
        tensors[name] = tensor
    _refuse_overflow(tensors)
    return tensors


def _refuse_overflow(tensors: Mapping[str, Tensor]) -> None:
    real = {
        name: (torch.view_as_real(t) if t.is_complex() else t).flatten()
        for name, t in tensors.items()
        if t.is_floating_point() or t.is_complex()
    }
    if not real or _largest(torch.cat(list(real.values()))) <= LARGEST:
        return
    for name, tensor in real.items():
        largest = _largest(tensor)
        if not math.isfinite(largest):
            raise Refused(f"{name} holds values that are not finite")
        if largest > LARGEST:
            raise Refused(f"{name} holds values above {LARGEST:g}, which overflow in sums")


def _largest(values: Tensor) -> float:
    """The largest absolute value; NaN if one of them is."""
    return max(map(abs, torch.stack(torch.aminmax(values)).tolist())) if values.numel() else 0.0


def _read_tensor(array: Array, name: str, *, most: int) -> Tensor:
    """Read an array from bytes that may contain anything."""
    try:
        return tensor_of(array, most=most)
    except Exception as error:  # hostile bytes may make the reader raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(f"{name} cannot be read: {reason}") from error

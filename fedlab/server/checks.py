"""What a reply must look like before anything is done with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from attacks.payload import Payload
from fedlab.privacy.release import History, from_json
from fedlab.protocol.reply import (
    BUFFERS,
    DECLARED,
    DECLINE,
    FACTS,
    HISTORY,
    KIND,
    NUM_EXAMPLES,
    PAYLOAD,
    REASON,
    STATUS,
    STEPS,
)

HEADER = 4096
"""Bytes that the header of an array may have beside its content."""


LONGEST = 300
"""Characters of a client's reason that are kept."""


class Refused(ValueError):
    """A reply that cannot be used; the message says why in a few words."""


@dataclass(frozen=True)
class Reply:
    """A reply that passed the checks.

    Attributes:
        client: Partition id.
        payload: What it sent.
        buffers: BatchNorm statistics, if it was asked to share them.
        history: Its accountant history.
    """

    client: int
    payload: Payload
    buffers: Mapping[str, Tensor]
    history: History


@dataclass(frozen=True)
class Unsent:
    """A client that declined to send anything, as it may.

    Attributes:
        status: ``budget``, or ``withheld`` after it had looked at its update.
        reason: In a sentence.
    """

    status: Literal["budget", "withheld"]
    reason: str

    @property
    def free(self) -> bool:
        """Whether the client spent nothing: it declined before it looked at an image."""
        return self.status == "budget"


@dataclass(frozen=True)
class Expected:
    """What every reply of a round is held against.

    Attributes:
        parameters: The global parameters by name.
        buffers: Buffers that are asked for, by name.
        max_examples: Most examples that a client may claim.
    """

    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    max_examples: int | None


def read_reply(message: Message, *, client: int, kind: str, expected: Expected) -> Reply:
    """Check a reply and take it apart.

    Raises:
        Refused: If the client failed, or anything about its reply is wrong.
    """
    _refuse_errors(message)
    content = message.content
    wanted = {PAYLOAD, FACTS, DECLARED} | ({BUFFERS} if expected.buffers else set())
    if set(content) != wanted:
        raise Refused(f"it holds {sorted(content)} instead of {sorted(wanted)}")
    facts = _facts(content, expected.max_examples)
    declared = content.config_records.get(DECLARED, ConfigRecord())
    if set(declared) != {KIND, HISTORY}:
        raise Refused(f"its declaration cannot be read: it is not {KIND} and {HISTORY}")
    if declared[KIND] != kind:
        raise Refused(f"it sent {declared[KIND]!s} where {kind} was asked for")
    history = history_of(message)
    return Reply(
        client=client,
        payload=Payload(
            "gradient" if kind == "gradient" else "weights",
            _tensors(content[PAYLOAD], expected.parameters),
            num_examples=facts[NUM_EXAMPLES],
            steps=facts[STEPS],
        ),
        buffers=_tensors(content[BUFFERS], expected.buffers) if expected.buffers else {},
        history=history,
    )


def decline_of(message: Message) -> Unsent | None:
    """What a client said that declined to send anything; ``None`` if it did not.

    Raises:
        Refused: If the client failed, or what it says cannot be read.
    """
    _refuse_errors(message)
    declared = message.content.config_records.get(DECLARED, ConfigRecord())
    if declared.get(KIND) != DECLINE:
        return None
    if set(message.content) != {DECLARED} or set(declared) != {KIND, HISTORY, STATUS, REASON}:
        raise Refused("it declined, but sent more than its reason")
    status, reason = declared[STATUS], declared[REASON]
    if status not in ("budget", "withheld") or not isinstance(reason, str):
        raise Refused(f"it declined for no known reason: {status!s}")
    told = " ".join(reason.split())[:LONGEST]
    return Unsent("budget" if status == "budget" else "withheld", told)


def history_of(message: Message) -> History:
    """The accountant history that a reply declares, whatever else is wrong with it.

    Raises:
        Refused: If the client failed, or it cannot be read.
    """
    _refuse_errors(message)
    try:
        return from_json(str(message.content.config_records[DECLARED][HISTORY]))
    except (KeyError, ValueError) as error:
        raise Refused(f"its declaration cannot be read: {error}") from error


def sent_something(message: Message) -> bool:
    """Whether a reply holds anything, be it unreadable, that images may have gone into."""
    return not message.has_error() and not set(message.content) <= {DECLARED}


def _refuse_errors(message: Message) -> None:
    if message.has_error():
        raise Refused(f"the client failed: {' '.join(str(message.error.reason).split())}")


def _facts(content: RecordDict, most: int | None) -> dict[str, int]:
    record = content[FACTS]
    if not isinstance(record, MetricRecord) or set(record) != {NUM_EXAMPLES, STEPS}:
        raise Refused(f"its facts are not {NUM_EXAMPLES} and {STEPS}")
    facts = {}
    for name, value in record.items():
        if not isinstance(value, int) or value < 1:
            raise Refused(f"{name} is {value!r}, not a whole number above 0")
        facts[name] = value
    if most is not None and facts[NUM_EXAMPLES] > most:
        raise Refused(f"it claims {facts[NUM_EXAMPLES]} examples, more than {most} are believed")
    return facts


def _tensors(record: object, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(record, ArrayRecord):
        raise Refused("its arrays are no ArrayRecord")
    if len(record) != len(expected):
        raise Refused(f"it sent {len(record)} tensors instead of {len(expected)}")
    if set(record) != set(expected):
        unknown = sorted(set(record) - set(expected))
        raise Refused(f"it sent tensors that the model does not have: {', '.join(unknown)}")
    tensors = {}
    for name, like in expected.items():
        tensor = _tensor(record[name], name, most=like.numel() * like.element_size())
        if tensor.shape != like.shape:
            raise Refused(f"{name} has shape {tuple(tensor.shape)} instead of {tuple(like.shape)}")
        if tensor.dtype != like.dtype:
            raise Refused(f"{name} is {tensor.dtype} instead of {like.dtype}")
        if not torch.isfinite(tensor).all():
            raise Refused(f"{name} holds values that are not finite")
        tensors[name] = tensor
    return tensors


def _tensor(array: Array, name: str, *, most: int) -> Tensor:
    """An array as a tensor, from bytes that may hold anything."""
    if len(array.data) > HEADER + most:
        raise Refused(f"{name} cannot be read: {len(array.data)} bytes for {most} of content")
    try:
        return torch.from_numpy(array.numpy().copy())
    except Exception as error:  # whatever a stranger's bytes make the reader stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(f"{name} cannot be read: {reason}") from error

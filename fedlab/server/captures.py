"""Captures: what the server received from one client in one round, in memory and on disk."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from safetensors.torch import save
from torch import Tensor

from attacks.payload import Payload
from fedlab.core.digest import digest, shared_digest
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.tensor_files import read_tensors
from fedlab.protocol.round_facts import RoundFacts

IMPRINT = "imprint"
"""Manipulation of the network by a block of the server's."""

TRAPPED = "trap-weights"
"""Manipulation of the first fully connected layer."""

READ_OUT = frozenset({IMPRINT, TRAPPED})
"""Manipulations after which images are read out without an attack."""

APART = frozenset({"class-fishing", TRAPPED})
"""Manipulations under which some clients of a round receive global arrays of their own."""

SUPPRESSED = "suppression"
"""Manipulation under which a sum of several clients holds the update of one of them."""


@dataclass(frozen=True)
class Capture:
    """Exactly what the server saw, without ground truth, seed and task.

    Attributes:
        round: Round number, counted from 1.
        clients: Partition ids of the clients whose data the payload depends on: one client, or
            several under secure aggregation.
        global_state: Parameters and buffers that the server sent, by name.
        payload: Gradient or weights that the server received.
        facts: Facts of the round that the server knows.
    """

    round: int
    clients: tuple[int, ...]
    global_state: Mapping[str, Tensor] = field(repr=False)
    payload: Payload = field(repr=False)
    facts: RoundFacts

    @cached_property
    def global_digest(self) -> str:
        """SHA-256 of the global arrays."""
        return shared_digest(self.global_state)

    @cached_property
    def reply_digest(self) -> str:
        """SHA-256 of the payload."""
        return digest(self.payload.tensors)

    @property
    def of(self) -> str:
        """The clients whose data the payload depends on, in words."""
        who = ", ".join(map(str, self.clients))
        return f"client {who}" if len(self.clients) == 1 else f"the sum of clients {who}"

    @property
    def _reply_name(self) -> str:
        if len(self.clients) > 1:
            return _sum_name(self.round)
        return _reply_name(self.round, self.clients[0])

    def save(self, folder: Path, *, apart: bool = False) -> None:
        """Write the payload, and the global arrays unless those of the round exist already.

        Args:
            folder: Folder of the captures; it is created.
            apart: True if the client received its own global arrays, which then have their own
                file, as under class fishing and trap weights.
        """
        folder.mkdir(parents=True, exist_ok=True)
        own = apart or self.facts.malicious in APART
        before = folder / _global_name(self.round, self.clients[0] if own else None)
        if not before.is_file():
            write_atomically(before, save(_plain(self.global_state)))
        facts = {
            "round": self.round,
            "clients": self.clients,
            "kind": self.payload.kind,
            "names": list(self.payload.tensors),
            "num_examples": self.payload.num_examples,
            "steps": self.payload.steps,
            "facts": asdict(self.facts),
            "global_digest": self.global_digest,
            "reply_digest": self.reply_digest,
        }
        text = json.dumps(facts)
        metadata = {"capture": text, "digest": _text_digest(text)}
        write_atomically(
            folder / self._reply_name, save(_plain(self.payload.tensors), metadata=metadata)
        )

    @staticmethod
    def kept(folder: Path, round: int, client: int) -> bool:
        """True if the folder has the reply of a client, alone or within a sum.

        Args:
            folder: Folder of the captures.
            round: Round number, counted from 1.
            client: Partition id of the client.
        """
        return _kept(folder, round, client) is not None

    @classmethod
    def load(cls, folder: Path, *, round: int, client: int) -> "Capture":
        """Read a capture; under secure aggregation the sum that the client is part of.

        Args:
            folder: Folder of the captures.
            round: Round number, counted from 1.
            client: Partition id of the client.

        Raises:
            BadInput: If the folder has no such capture, or the files are damaged.
        """
        reply = _kept(folder, round, client)
        if reply is None:
            kept = sorted(
                path.stem
                for pattern in ("reply-*", "sum-*")
                for path in folder.glob(f"{pattern}.safetensors")
            )
            raise BadInput(
                f"no reply of client {client} was kept in round {round}; schedule a reconstruction "
                "there or run with --set captures.keep=all to keep one"
                + (f" (kept: {', '.join(kept)})" if kept else "")
            )
        tensors, metadata = read_tensors(reply)
        try:
            saved: dict[str, Any] = json.loads(metadata["capture"])
            # Captures of earlier versions have no digest of their facts.
            if metadata.get("digest", "") not in ("", _text_digest(metadata["capture"])):
                raise ValueError("its facts changed since they were kept")
            facts = saved["facts"] if "facts" in saved else saved["announced"]  # of older runs
            # JSON has lists only.
            facts |= {key: tuple(value) for key, value in facts.items() if isinstance(value, list)}
            first = saved["clients"][0]
            own, shared = (folder / _global_name(round, who) for who in (first, None))
            global_state, _ = read_tensors(own if own.is_file() else shared)
            capture = cls(
                round=saved["round"],
                clients=tuple(saved["clients"]),
                global_state=global_state,
                payload=Payload(
                    cast(Literal["gradient", "weights"], saved["kind"]),
                    # A file sorts the names, but label inference needs the order of the layers.
                    {name: tensors[name] for name in saved["names"]},
                    num_examples=saved["num_examples"],
                    steps=saved["steps"],
                ),
                facts=RoundFacts(**facts),
            )
            digests = saved["global_digest"], saved["reply_digest"]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise BadInput(f"{reply.name} is not a capture of fedlab ({error})") from error
        if (capture.global_digest, capture.reply_digest) != digests:
            raise BadInput(f"{reply.name} or its global arrays changed since they were kept")
        return capture


def _kept(folder: Path, round: int, client: int) -> Path | None:
    """The file with the reply of a client, or ``None``."""
    alone, whole = folder / _reply_name(round, client), folder / _sum_name(round)
    if alone.is_file():
        return alone
    if whole.is_file():
        _, metadata = read_tensors(whole)
        try:
            if client in json.loads(metadata["capture"])["clients"]:
                return whole
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise BadInput(f"{whole.name} is not a capture of fedlab ({error})") from error
    return None


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors, as safetensors needs them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _global_name(round: int, client: int | None) -> str:
    return f"global-{round:04d}{'' if client is None else f'-{client:05d}'}.safetensors"


def _reply_name(round: int, client: int) -> str:
    return f"reply-{round:04d}-{client:05d}.safetensors"


def _sum_name(round: int) -> str:
    return f"sum-{round:04d}.safetensors"

"""A Capture is what the server saw of one client in one round, and can be kept on disk."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from safetensors.torch import save
from torch import Tensor

from attacks.payload import Payload
from fedlab.core.digest import digest
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.tensor_files import read_tensors
from fedlab.protocol.round_facts import RoundFacts

FISHED = "class-fishing"
"""The one malice under which each client of a round gets global arrays of its own."""


@dataclass(frozen=True)
class Capture:
    """Exactly what the server saw: immutable, and free of ground truth, seed and task.

    Attributes:
        round: Counted from 1.
        clients: Partition ids whose data the payload depends on; one without secure
            aggregation.
        global_state: The parameters and buffers that the server sent, by name.
        payload: What came back.
        announced: What the server had asked for.
    """

    round: int
    clients: tuple[int, ...]
    global_state: Mapping[str, Tensor] = field(repr=False)
    payload: Payload = field(repr=False)
    announced: RoundFacts

    @cached_property
    def global_digest(self) -> str:
        """SHA-256 of the global arrays."""
        return digest(self.global_state)

    @cached_property
    def reply_digest(self) -> str:
        """SHA-256 of the payload."""
        return digest(self.payload.tensors)

    @property
    def of(self) -> str:
        """Whose data it depends on, in words."""
        who = ", ".join(map(str, self.clients))
        return f"client {who}" if len(self.clients) == 1 else f"the sum of clients {who}"

    @property
    def _reply_name(self) -> str:
        if len(self.clients) > 1:
            return _sum_name(self.round)
        return _reply_name(self.round, self.clients[0])

    def save(self, folder: Path, *, apart: bool = False) -> None:
        """Write the reply, and the global arrays unless this round's are there already.

        Args:
            folder: Made if it is not there.
            apart: Whether the client got arrays of its own, which then have a file of their own;
                so does a client that was fished.
        """
        folder.mkdir(parents=True, exist_ok=True)
        own = apart or self.announced.malicious == FISHED
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
            "announced": asdict(self.announced),
            "global_digest": self.global_digest,
            "reply_digest": self.reply_digest,
        }
        write_atomically(
            folder / self._reply_name,
            save(_plain(self.payload.tensors), metadata={"capture": json.dumps(facts)}),
        )

    @staticmethod
    def kept(folder: Path, round: int, client: int) -> bool:
        """Whether a reply was kept, be it within a sum."""
        return _kept(folder, round, client) is not None

    @classmethod
    def load(cls, folder: Path, *, round: int, client: int) -> "Capture":
        """Read a kept Capture back; under secure aggregation the sum that the client is part of.

        Raises:
            BadInput: If none was kept, or the files are damaged.
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
            facts: dict[str, Any] = json.loads(metadata["capture"])
            own, shared = (folder / _global_name(round, who) for who in (client, None))
            global_state, _ = read_tensors(own if own.is_file() else shared)
            capture = cls(
                round=facts["round"],
                clients=tuple(facts["clients"]),
                global_state=global_state,
                payload=Payload(
                    cast(Literal["gradient", "weights"], facts["kind"]),
                    # A file has them sorted, but the order of the layers tells which is the last.
                    {name: tensors[name] for name in facts["names"]},
                    num_examples=facts["num_examples"],
                    steps=facts["steps"],
                ),
                announced=RoundFacts(
                    **{**facts["announced"], "defenses": tuple(facts["announced"]["defenses"])}
                ),
            )
            sound = facts["global_digest"], facts["reply_digest"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{reply.name} is no Capture of fedlab ({error})") from error
        if (capture.global_digest, capture.reply_digest) != sound:
            raise BadInput(f"{reply.name} or its global arrays changed since they were kept")
        return capture


def _kept(folder: Path, round: int, client: int) -> Path | None:
    """The file that holds what a client sent."""
    alone, whole = folder / _reply_name(round, client), folder / _sum_name(round)
    if alone.is_file():
        return alone
    if whole.is_file():
        _, metadata = read_tensors(whole)
        try:
            if client in json.loads(metadata["capture"])["clients"]:
                return whole
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{whole.name} is no Capture of fedlab ({error})") from error
    return None


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors, as safetensors asks for."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _global_name(round: int, client: int | None) -> str:
    return f"global-{round:04d}{'' if client is None else f'-{client:05d}'}.safetensors"


def _reply_name(round: int, client: int) -> str:
    return f"reply-{round:04d}-{client:05d}.safetensors"


def _sum_name(round: int) -> str:
    return f"sum-{round:04d}.safetensors"

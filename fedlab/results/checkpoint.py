"""The state after a round, in one file that is replaced atomically."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedlab.core.digest import digest
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.tensor_files import read_tensors


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next round depends on, except the privacy histories.

    Attributes:
        round: The last finished round.
        state: Global parameters and buffers by name.
        memory: State of the aggregation rule by name, such as its momentum.
    """

    round: int
    state: Mapping[str, Tensor]
    memory: Mapping[str, np.ndarray[Any, Any]]

    def save(self, path: Path) -> None:
        """Write the checkpoint, in place of an earlier one."""
        tensors = {f"state/{name}": value.contiguous() for name, value in self.state.items()}
        # Some rules compute in float64, which safetensors keeps.
        tensors |= {
            f"memory/{name}": torch.from_numpy(np.asarray(value, order="C"))
            for name, value in self.memory.items()
        }
        facts = {"round": str(self.round), "digest": _digest(self.round, tensors)}
        write_atomically(path, save(tensors, metadata=facts))

    @staticmethod
    def round_of(path: Path) -> int:
        """The round of a checkpoint, read without its tensors.

        Raises:
            BadInput: If the file is damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                return int(file.metadata()["round"])
        except (KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
            raise BadInput(f"{path} cannot be read: {error}") from error

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint.

        Raises:
            BadInput: If there is no such file, or it is damaged.
        """
        if not path.is_file():
            raise BadInput(f"{path.parent.parent} has no checkpoint: no round of it ended")
        tensors, facts = read_tensors(path)
        try:
            # Checkpoints of earlier versions have no digest.
            if facts.get("digest", "") not in ("", _digest(int(facts["round"]), tensors)):
                raise ValueError("it changed since it was written")
            return cls(
                round=int(facts["round"]),
                state=_under("state/", tensors),
                memory={k: v.numpy() for k, v in _under("memory/", tensors).items()},
            )
        except (KeyError, ValueError) as error:
            raise BadInput(f"{path} cannot be read: {error}") from error


def _digest(round: int, tensors: Mapping[str, Tensor]) -> str:
    return digest({**tensors, "round": torch.tensor(round)})


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

"""A little is enough: the mean of honest updates, moved within their spread (arXiv 1902.06156)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.poisoning.updates.colluding import ColludingAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import Collusion


class LittleIsEnough(ColludingAttack):
    """Sends the mean of honest updates, moved by z standard deviations (ALIE)."""

    z: float | None = Field(default=None, ge=0)
    """Number of standard deviations, at least 0; by default the largest that the numbers of clients
    and colluding clients allow."""

    def combine(self, known: Tensor, collusion: Collusion) -> Tensor:
        """Return the moved mean."""
        from attacks.model_poisoning.little_is_enough import largest_z, little_is_enough

        z = largest_z(collusion.clients, collusion.malicious) if self.z is None else self.z
        return little_is_enough(known, z=z)

    def missing_knowledge(self, *, known: int, clients: int, malicious: int) -> str | None:
        """Reason: no z is defined where the colluding clients are a majority."""
        from attacks.model_poisoning.little_is_enough import largest_z  # imports torch

        if self.z is not None:
            return None
        try:
            largest_z(clients, malicious)
        except ValueError:
            return (
                f"{self.key} needs a majority of other clients to hide among, but {malicious} of "
                f"{clients} clients collude: give z"
            )
        return None

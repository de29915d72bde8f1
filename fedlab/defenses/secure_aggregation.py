"""Secure aggregation: the server sees only the sum of the updates of several clients.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from fedlab.defenses.pipeline import ClientContext, Pipeline


class SecureAggregation(Defense):
    """Shows the server only the sum of the updates of all clients under it in a round (simulated).

    No cryptography is involved: the client sends its update as usual, and the server sums the
    updates of all clients under secure aggregation before it uses them
    (``fedlab.server.secure_sum``).
    """

    colour: ClassVar[str] = "#555555"
    keeps_guarantees: ClassVar[bool] = True
    sums_updates: ClassVar[bool] = True
    leaves_training: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Return the pipeline unchanged, since the server forms the sum."""
        return pipeline

    @property
    def position(self) -> int:
        """Last place, since nothing can change an update that is already part of a sum."""
        return 3

    def conflict_before(self, later: Defense) -> str | None:
        """Refuse later defenses that change or inspect the update."""
        if later.changes_update or later.inspects_update:
            return (
                f"{self.name} before {later.name}: nothing can change an update that is already "
                f"part of a sum; list {self.name} last"
            )
        return None

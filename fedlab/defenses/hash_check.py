"""Hash check: clients compare what the server sent them, and answer only if it is the same.

Pasquini, Francati and Ateniese, "Eluding Secure Aggregation in Federated Learning via Model
Inconsistency" (CCS 2022, arXiv 2111.07380): an attack that sends different weights to different
clients needs clients that do not compare them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from fedlab.core.digest import digest
from fedlab.defenses.base import Defense
from fedlab.defenses.pipeline import Withheld

if TYPE_CHECKING:
    from attacks.payload import Payload
    from fedlab.defenses.pipeline import ClientContext, Pipeline


class HashCheck(Defense):
    """Withholds the update if another client under the check was sent other weights (simulated).

    Clients publish the hash of what they were sent, where the server cannot change it; here the
    server's task carries the hashes. It detects suppression if the target and another client of the
    sum are under the check, and class fishing if some clients under it are fished and others not;
    an imprint block or trap weights it does not, since all are sent the same. The decision does not
    depend on images.
    """

    colour: ClassVar[str] = "#7F3C8D"
    keeps_guarantees: ClassVar[bool] = True
    inspects_update: ClassVar[bool] = True
    publishes_hashes: ClassVar[bool] = True
    leaves_training: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Compare the hashes when the update is about to be sent, but not in a replay."""
        if context.replay:
            return pipeline

        def inspect(_: Payload) -> None:
            if set(context.published) != {digest(context.sent)}:
                raise Withheld("another client was sent other weights")

        return replace(pipeline, inspections=(*pipeline.inspections, inspect))

    @property
    def position(self) -> int:
        """Place before secure aggregation, beside other inspections."""
        return 2

"""The base class of every update attack: one subclass in one file is a whole attack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import PlainValidator, SerializeAsAny

from fedlab.core.plugins import Plugin, Registry, check_subclass
from fedlab.poisoning.base import name_in_errors

if TYPE_CHECKING:
    from torch import Tensor

    from attacks.knowledge import LocalSGD
    from attacks.payload import Payload
    from fedlab.poisoning.context import UpdateContext


class UpdateAttack(Plugin, ABC):
    """A change of a client's update before it is sent.

    A subclass declares its settings as fields and implements ``tamper``. One that also trains in
    another way implements ``adjust_training`` or ``trains``. One that is made from the honest
    updates of several clients subclasses ``ColludingAttack`` instead. A scenario names it as
    ``update = { attack = "package.module:Name" }``.

    Example:
        >>> from fedlab.poisoning import UpdateAttack
        >>> class KeepLargest(UpdateAttack):
        ...     "Send only the entries above a threshold."
        ...     threshold: float = 0.01
        ...
        ...     def tamper(self, change, context):
        ...         return change * (change.abs() > self.threshold)
    """

    tag = "attack"
    registry: ClassVar[Registry[type[UpdateAttack]]]

    observes_global: ClassVar[bool] = False
    """True if the attack needs ``context.observed``: the client then keeps the global parameters
    that it receives."""

    attack: str = ""
    """Name of the attack: a built-in one, an entry point, or ``package.module:Name``."""

    @abstractmethod
    def tamper(self, change: Tensor, context: UpdateContext) -> Tensor:
        """Return the change that the client sends instead of its own.

        Args:
            change: New parameters minus global parameters after the client's training, as one
                vector, float ``[d]``.
            context: Global parameters, a random generator, and what other clients shared.

        Returns:
            A vector of the same length.

        Raises:
            ValueError: If the attack cannot be made from these inputs.
        """

    def trains(self, observed: Tensor | None) -> Tensor | None:
        """Return which coordinates the client's local steps change; ``None`` for all.

        Args:
            observed: As in ``UpdateContext``.

        Returns:
            1 for coordinates that change and 0 for others, float ``[d]``, in the order of a flat
            change.
        """
        return None

    def adjust_training(self, training: LocalSGD) -> LocalSGD:
        """Return the local training that the client runs instead of the one it was asked for."""
        return training

    def apply(self, payload: Payload, context: UpdateContext) -> Payload:
        """Call ``tamper`` on the change in a payload, and name the attack in every error.

        Raises:
            ValueError: If the attack cannot be made from these inputs.
            PluginFailed: If the attack raises anything else, or does not return such a vector.
        """
        from attacks.model_poisoning.vectors import unflatten  # imports torch

        start = context.parameters
        with name_in_errors(self):
            change = self.tamper(flat_change(payload, start), context)
            named = unflatten(change, payload.tensors)
        return replace(payload, tensors={n: start[n] + named[n] for n in payload.tensors})


def flat_change(payload: Payload, parameters: Mapping[str, Tensor]) -> Tensor:
    """New weights minus global parameters as one vector, float ``[d]``."""
    from attacks.model_poisoning.vectors import flatten  # imports torch

    return flatten({name: w - parameters[name] for name, w in payload.tensors.items()})


UPDATE_ATTACKS: Registry[type[UpdateAttack]] = Registry(
    "update attack",
    group="fedlab.updates",
    builtin={
        "scaling": "fedlab.poisoning.updates.scaling:Scaling",
        "constrain-and-scale": "fedlab.poisoning.updates.constrain_and_scale:ConstrainAndScale",
        "sign-flip": "fedlab.poisoning.updates.sign_flip:SignFlip",
        "gaussian": "fedlab.poisoning.updates.gaussian:Gaussian",
        "little-is-enough": "fedlab.poisoning.updates.little_is_enough:LittleIsEnough",
        "inner-product": "fedlab.poisoning.updates.inner_product:InnerProduct",
        "min-max": "fedlab.poisoning.updates.min_max:MinMax",
        "min-sum": "fedlab.poisoning.updates.min_sum:MinSum",
        "neurotoxin": "fedlab.poisoning.updates.neurotoxin:Neurotoxin",
    },
    check=check_subclass(UpdateAttack),
)
"""Every update attack that a scenario can name."""

UpdateAttack.registry = UPDATE_ATTACKS

AnyUpdateAttack = Annotated[SerializeAsAny[UpdateAttack], PlainValidator(UpdateAttack.parse_table)]
"""Type of a field that accepts any update attack: an instance, a table with its name, or the
name."""

"""Data poisons and update attacks of poisoning clients, each a plug-in in a file of its own."""

from fedlab.poisoning.backdoor import BackdoorPoison
from fedlab.poisoning.base import POISONS, AnyPoison, DataPoison
from fedlab.poisoning.context import Collusion, Goal, PoisoningContext, UpdateContext
from fedlab.poisoning.crafting import CraftedPoison
from fedlab.poisoning.targeted import TargetedPoison
from fedlab.poisoning.updates.base import UPDATE_ATTACKS, AnyUpdateAttack, UpdateAttack
from fedlab.poisoning.updates.colluding import ColludingAttack

__all__ = [
    "POISONS",
    "UPDATE_ATTACKS",
    "AnyPoison",
    "AnyUpdateAttack",
    "BackdoorPoison",
    "ColludingAttack",
    "Collusion",
    "CraftedPoison",
    "DataPoison",
    "Goal",
    "PoisoningContext",
    "TargetedPoison",
    "UpdateAttack",
    "UpdateContext",
]

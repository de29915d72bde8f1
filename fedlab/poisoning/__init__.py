"""What poisoning clients do, as a scenario names it; ``attacks`` holds how each is done."""

from typing import assert_never

from fedlab.poisoning.availability import MisleadTraining
from fedlab.poisoning.backdoors import Backdoor
from fedlab.poisoning.context import DataPoison
from fedlab.poisoning.hidden_trigger import PlantHiddenTrigger
from fedlab.poisoning.label_flip import WrongLabels
from fedlab.poisoning.settings import (
    Availability,
    BadNets,
    Blended,
    DataSettings,
    Distributed,
    GradientMatching,
    HiddenTrigger,
    LabelFlip,
    MetaPoison,
    Sinusoidal,
)
from fedlab.poisoning.targeted import TargetedPoison

__all__ = ["DataPoison", "DataSettings", "data_poison"]


def data_poison(settings: DataSettings) -> DataPoison:
    """The poison that carries out the settings of a scenario."""
    match settings:
        case LabelFlip():
            return WrongLabels(settings)
        case BadNets() | Blended() | Sinusoidal() | Distributed():
            return Backdoor(settings)
        case GradientMatching() | MetaPoison():
            return TargetedPoison(settings)
        case Availability():
            return MisleadTraining(settings)
        case HiddenTrigger():
            return PlantHiddenTrigger(settings)
        case _:
            assert_never(settings)

"""What poisoning clients do, as a scenario names it; ``attacks`` holds how each is done."""

from typing import assert_never

from fedlab.poisons.backdoors import Backdoor
from fedlab.poisons.hidden_trigger import PlantHiddenTrigger
from fedlab.poisons.misleading import MisleadTraining
from fedlab.poisons.relabelled import WrongLabels
from fedlab.poisons.settings import (
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
from fedlab.poisons.targeted import MoveOneImage
from fedlab.poisons.workshop import DataPoison

__all__ = ["DataPoison", "DataSettings", "data_poison"]


def data_poison(settings: DataSettings) -> DataPoison:
    """The poison that carries out the settings of a scenario."""
    match settings:
        case LabelFlip():
            return WrongLabels(settings)
        case BadNets() | Blended() | Sinusoidal() | Distributed():
            return Backdoor(settings)
        case GradientMatching() | MetaPoison():
            return MoveOneImage(settings)
        case Availability():
            return MisleadTraining(settings)
        case HiddenTrigger():
            return PlantHiddenTrigger(settings)
        case _:
            assert_never(settings)

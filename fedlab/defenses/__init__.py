"""What a client does to its batches, its gradients or its update before anything leaves it."""

from typing import assert_never

from fedlab.defenses.dp_instahide import MixAndNoise
from fedlab.defenses.dp_sgd import ClipAndNoise
from fedlab.defenses.pipeline import Defense
from fedlab.defenses.settings import DPSGD, DefenseSettings, DPInstaHide

__all__ = ["DPSGD", "DPInstaHide", "Defense", "DefenseSettings", "defense"]


def defense(settings: DefenseSettings) -> Defense:
    """The defense that carries out the settings of a scenario."""
    match settings:
        case DPSGD():
            return ClipAndNoise(settings)
        case DPInstaHide():
            return MixAndNoise(settings)
    assert_never(settings)

"""What a client does to its batches, its gradients or its update before anything leaves it."""

from typing import assert_never

from fedlab.defenses.adversarial import PoisonBatches
from fedlab.defenses.augmentation import Augment
from fedlab.defenses.clip_noise import ClipAndNoiseUpdate
from fedlab.defenses.dp_instahide import MixAndNoise
from fedlab.defenses.dp_sgd import ClipAndNoise
from fedlab.defenses.leakage_gate import GateLeakage
from fedlab.defenses.maxup import WorstCopy
from fedlab.defenses.mixing import MixUp, PasteBox
from fedlab.defenses.pipeline import Defense
from fedlab.defenses.pruning import Prune
from fedlab.defenses.quantisation import Quantise
from fedlab.defenses.secure_aggregation import SumWithOthers
from fedlab.defenses.settings import (
    DPSGD,
    AdversarialPoisoning,
    ClipNoise,
    CutMix,
    Cutout,
    DefenseSettings,
    DPInstaHide,
    FlipCrop,
    LeakageGate,
    MaxUp,
    Mixup,
    Pruning,
    Quantisation,
    SecureAggregation,
    Soteria,
)
from fedlab.defenses.soteria import PruneTellingFeatures

__all__ = ["DPSGD", "DPInstaHide", "Defense", "DefenseSettings", "defense"]


def defense(settings: DefenseSettings) -> Defense:
    """The defense that carries out the settings of a scenario."""
    match settings:
        case DPSGD():
            return ClipAndNoise(settings)
        case DPInstaHide():
            return MixAndNoise(settings)
        case FlipCrop() | Cutout():
            return Augment(settings)
        case Mixup():
            return MixUp(settings)
        case CutMix():
            return PasteBox(settings)
        case MaxUp():
            return WorstCopy(settings)
        case AdversarialPoisoning():
            return PoisonBatches(settings)
        case ClipNoise():
            return ClipAndNoiseUpdate(settings)
        case Pruning():
            return Prune(settings)
        case Quantisation():
            return Quantise(settings)
        case LeakageGate():
            return GateLeakage(settings)
        case SecureAggregation():
            return SumWithOthers()
        case Soteria():
            return PruneTellingFeatures(settings)
    assert_never(settings)

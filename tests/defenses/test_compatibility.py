"""Stacks with a wrong guarantee are refused with the reason and the fix; others are accepted."""

from itertools import permutations

import pytest

from fedlab.core.errors import BadInput
from fedlab.defenses import DEFENSES
from fedlab.defenses.adversarial import AdversarialPoisoning
from fedlab.defenses.ats import ATS
from fedlab.defenses.censor import Censor
from fedlab.defenses.clip_noise import ClipNoise
from fedlab.defenses.compatibility import check, place
from fedlab.defenses.concealed_samples import ConcealedSamples
from fedlab.defenses.cutmix import CutMix
from fedlab.defenses.cutout import Cutout
from fedlab.defenses.dp_instahide import DPInstaHide
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.defenses.dual_pruning import DualPruning
from fedlab.defenses.flip_crop import FlipCrop
from fedlab.defenses.grad_defense import GradDefense
from fedlab.defenses.leakage_gate import LeakageGate
from fedlab.defenses.learning_rate import LearningRatePerturbation
from fedlab.defenses.maxup import MaxUp
from fedlab.defenses.mixup import Mixup
from fedlab.defenses.outpost import Outpost
from fedlab.defenses.pruning import Pruning
from fedlab.defenses.quantisation import Quantisation
from fedlab.defenses.secure_aggregation import SecureAggregation
from fedlab.defenses.soteria import Soteria
from fedlab.scenario.toggles import toggled
from tests.federations import small

FROZEN = DPInstaHide(frozen=100)
MIXING = (DPInstaHide(), FROZEN, DPInstaHide(weights="dirichlet"), Mixup(), CutMix())
APART = "give them different rounds or clients"

REFUSED = [
    *[((DPSGD(), mixing), ["both dp-sgd and", "per-example clipping", APART]) for mixing in MIXING],
    ((DPSGD(), AdversarialPoisoning()), ["gradients of others", APART]),
    ((DPSGD(), Soteria()), ["looking at the images", "use pruning instead"]),
    ((DPSGD(clipping="adaptive"), ClipNoise()), ["declared", 'set clipping = "flat"', APART]),
    ((Mixup(), CutMix()), ["mixed twice", "keep one"]),
    ((Mixup(), DPInstaHide()), ["mixed twice", "keep one"]),
    ((CutMix(), FROZEN), ["mixed twice", "keep one"]),
    *[((AdversarialPoisoning(), mixing), ["one label", APART]) for mixing in MIXING],
    *[((ConcealedSamples(), mixing), ["another class", APART]) for mixing in MIXING],
    *[
        ((DPSGD(), choosing), ["looking at the images", "use pruning instead"])
        for choosing in (Censor(), ConcealedSamples())
    ],
    # A harmless defense between two conflicting ones changes nothing.
    ((DPSGD(), Pruning(), Mixup()), ["both dp-sgd and mixup"]),
]
"""Stacks that are refused in any order, with words of the message."""

REFUSED_IN_ORDER = [
    *[
        ((augmenting, FROZEN), ["same in every round", f"list {augmenting.name} after it"])
        for augmenting in (FlipCrop(), Cutout(), MaxUp())
    ],
    *[
        ((ClipNoise(), choosing), ["looking at the images", f"list {choosing.name} first"])
        for choosing in (Soteria(), Censor(), ConcealedSamples())
    ],
    *[
        ((changing, DPSGD()), ["computes the gradient itself", f"list {changing.name} after"])
        for changing in (Outpost(), LearningRatePerturbation())
    ],
    *[
        ((SecureAggregation(), other), ["part of a sum", "list secure-aggregation last"])
        for other in (
            ClipNoise(),
            Pruning(),
            Quantisation(),
            Soteria(),
            GradDefense(),
            LeakageGate(),
        )
    ],
    *[
        ((LeakageGate(), other), ["must inspect", f"list leakage-gate after {other.name}"])
        for other in (ClipNoise(), Pruning(), Quantisation(), Soteria())
    ],
]
"""Stacks that are refused in this order only, with words of the message."""

FINE = [
    (),
    (FlipCrop(), Cutout(), Mixup()),
    (FlipCrop(), DPInstaHide()),
    (DPInstaHide(), FlipCrop()),  # augmenting noisy mixtures is post-processing
    (FROZEN, FlipCrop()),
    (MaxUp(), DPSGD()),  # the worst copy of an image depends on this image alone
    (FlipCrop(), Cutout(), DPSGD(), Pruning(), Quantisation()),
    (DPSGD(), ClipNoise()),
    (DPSGD(clipping="per-layer"), ClipNoise()),
    (Pruning(), ClipNoise(), Quantisation()),
    (Soteria(), ClipNoise()),
    (ATS(), DPSGD(), Outpost(), LearningRatePerturbation(), GradDefense(), DualPruning()),
    (ConcealedSamples(), Censor(), ClipNoise()),
    (DPInstaHide(), Soteria(), ClipNoise(), LeakageGate(), SecureAggregation()),
    (
        SecureAggregation(),
        DPSGD(),
        FlipCrop(),
    ),  # they act before the update
    (AdversarialPoisoning(), MaxUp(), FlipCrop()),
]


@pytest.mark.parametrize(("stack", "words"), REFUSED)
def test_conflicting_pair_is_refused_in_any_order(stack, words):
    for each in permutations(stack):
        with pytest.raises(ValueError, match=r"^both ") as refusal:
            check(each)
        assert all(word in str(refusal.value) for word in words)


@pytest.mark.parametrize(("stack", "words"), REFUSED_IN_ORDER)
def test_wrong_order_is_refused_and_the_other_accepted(stack, words):
    with pytest.raises(ValueError, match=f"{stack[0].name} before {stack[1].name}") as refusal:
        check(stack)
    assert all(word in str(refusal.value) for word in words)
    check(stack[::-1])


@pytest.mark.parametrize("stack", FINE)
def test_compatible_stack_is_accepted(stack):
    check(stack)


@pytest.mark.parametrize("name", DEFENSES.names)
def test_every_defense_is_accepted_alone(name):
    assert small(defenses=[{"name": name}]).defenses[0].name == name


def test_scenario_with_a_conflicting_cell_is_refused():
    entries = [
        {"name": "clip-noise", "clients": "2-"},
        {"name": "mixup", "rounds": "3-"},
        {"name": "dp-sgd", "rounds": "2,4", "clients": "1"},
    ]
    with pytest.raises(BadInput, match="round 4, client 1 has both dp-sgd and mixup: one image"):
        small(defenses=entries)
    apart = [*entries[:2], {"name": "dp-sgd", "rounds": "1-2"}]
    assert len(small(defenses=apart).defenses) == 3


def test_toggle_that_makes_a_conflict_is_refused():
    scenario = small(defenses=[{"name": "mixup", "rounds": "3-", "clients": "2"}])
    with pytest.raises(BadInput, match=r"round 3, client 2 has both dp-sgd and mixup"):
        toggled(scenario, "dp-sgd", on=True, clients=[1, 2], from_round=2)
    assert toggled(scenario, "dp-sgd", on=True, clients=[1], from_round=2)


@pytest.mark.parametrize(
    ("before", "added", "after"),
    [
        ([], "pruning", ["pruning"]),
        (["flip-crop"], "pruning", ["flip-crop", "pruning"]),
        (
            ["leakage-gate", "secure-aggregation"],
            "clip-noise",
            ["clip-noise", "leakage-gate", "secure-aggregation"],
        ),
        (["secure-aggregation"], "leakage-gate", ["leakage-gate", "secure-aggregation"]),
        (["leakage-gate"], "secure-aggregation", ["leakage-gate", "secure-aggregation"]),
    ],
)
def test_toggle_inserts_a_defense_at_its_position(before, added, after):
    scenario = small(defenses=[{"name": name} for name in before])
    changed = toggled(scenario, added, on=True, clients=range(4), from_round=1)
    assert [entry.name for entry in changed.defenses] == after


def test_frozen_set_is_placed_before_augmentation():
    assert place([FlipCrop(), Pruning()], FROZEN) == 0
    assert place([FlipCrop(), Pruning()], DPInstaHide()) == 2

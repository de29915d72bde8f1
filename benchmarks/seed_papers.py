"""Four of the papers that fedlab grew from, where ``poisoning`` and ``defenses`` fell short.

MetaPoison with longer training, more networks and a larger epsilon; adversarial poisoning as a
defense against Witches' Brew; strong augmentation against a backdoor of one owner; WITCHcraft with
other draws. Finished runs are kept, so an interrupted run can be continued.
"""

from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

from benchmarks.options import Options
from benchmarks.poison_studies import (
    ARMS,
    Arm,
    Found,
    Study,
    Trials,
    beats_random,
    figures_of,
    measure,
)
from benchmarks.poisoning import image_folder
from benchmarks.poisons import BREWED, META, PLAIN
from benchmarks.report import Claim, Report
from benchmarks.step_draws import step_draws
from fedlab.data.loading import load

KEPT = Path("runs") / "benchmarks" / "seed_papers"
"""Finished runs; empty it to measure anew."""

VICTIMS = 3
"""Seeds of WITCHcraft's networks."""
HARDENED = 4_000
"""Images of Fashion-MNIST that they are trained on."""
CHEAP = 0.02
"""Accuracy that strong augmentation may cost."""

BESIDE_RANDOM = {arm: ARMS[arm] for arm in ("random", "poison")}
LONG = Study(
    "MetaPoison, trained for 40 epochs",
    {**META, "unroll": 2, "epochs": 40},
    trials=10,
    file="fashion_mnist.npz",
    images=2_000,
    width=8,
    rounds=40,
    training=PLAIN,
    arms=BESIDE_RANDOM,
)
"""As in ``poisoning``, apart from the length of training of the victim and the networks."""
METAPOISON = (
    LONG,
    replace(
        LONG,
        name="MetaPoison, 8 networks, epsilon 32/255",
        poison={**LONG.poison, "epsilon": 32 / 255, "ensemble": 8},
    ),
)
ADVERSARIAL = replace(
    BREWED,
    name="Witches' Brew against adversarial poisoning",
    trials=8,
    images=2_000,
    more={"obeys_defenses": True},
    arms={
        "undefended": ARMS["poison"],
        "defended": Arm(defenses=[{"name": "adversarial-poisoning"}]),
        "a quarter of the step": Arm(defenses=[{"name": "adversarial-poisoning", "lr": 0.1}]),
        "random changes instead": Arm(
            defenses=[{"name": "adversarial-poisoning", "inner": "random"}]
        ),
    },
)
AUGMENTED = Study(
    "BadNets, one owner, 10 % of the images",
    {"attack": "badnets", "share": 0.1, "size": 3},
    trials=3,
    aim="trigger",
    rounds=14,
    training={"lr_decay": 0.85},
    more={"obeys_defenses": True},
    arms={
        "none": Arm(),
        "mixup k=2": Arm(defenses=[{"name": "mixup", "k": 2}]),
        "mixup k=4": Arm(defenses=[{"name": "mixup", "k": 4}]),
        "CutMix": Arm(defenses=[{"name": "cutmix", "probability": 1.0}]),
        "Cutout": Arm(defenses=[{"name": "cutout"}]),
        "MaxUp": Arm(defenses=[{"name": "maxup"}]),
    },
)
FEWER = replace(
    AUGMENTED,
    name="BadNets, one owner, 3 % of the images",
    poison={**AUGMENTED.poison, "share": 0.03},
    arms={arm: AUGMENTED.arms[arm] for arm in ("none", "mixup k=4", "CutMix")},
)
STUDIES = (*METAPOISON, ADVERSARIAL, AUGMENTED, FEWER)
"""Sizes for an hour of one core."""


def run(options: Options) -> Report:
    """Run all studies.

    Raises:
        BadInput: If there are no images.
        RunFailed: If a run cannot go on.
    """
    folder = image_folder(options)
    grey = load(f"npz:{folder / 'fashion_mnist.npz'}").limited(HARDENED, None, seed=0)
    figures, claims = step_draws(grey, range(options.repeats or VICTIMS))
    found = measure(
        STUDIES,
        folder,
        KEPT,
        device=options.device,
        processes=options.processes,
        trials=options.repeats,
    )
    return Report(
        title="Which effects of the seed papers appear at larger budgets?",
        settings={
            "studies": "; ".join(map(str, STUDIES)),
            "WITCHcraft": f"{HARDENED:,} images of fashion_mnist.npz, convnet of width 16, "
            f"{VICTIMS} seeds",
        },
        figures=[*figures_of(found), *figures],
        claims=[
            *(beats_random(study.name, found) for study in METAPOISON),
            _stopped(found),
            *(claim for study in (AUGMENTED, FEWER) for claim in _sanitised(study.name, found)),
            *claims,
        ],
    )


def _stopped(found: Found) -> Claim:
    """The claim that poisons of each batch protect, and better than random changes do."""
    undefended, defended, smaller, control = (
        found[ADVERSARIAL.name, arm] for arm in ADVERSARIAL.arms
    )
    return Claim(
        f"{ADVERSARIAL.name}: {undefended} trials succeed undefended, {defended} defended, "
        f"{smaller} with a quarter of its step, {control} with random changes instead",
        defended.interval[1] < undefended.interval[0] and defended.hits < control.hits,
    )


def _sanitised(study: str, found: Found) -> list[Claim]:
    """The claims that mixing at least halves the success of a backdoor at little cost."""
    none = found[study, "none"]
    claims = []
    for arm in ("mixup k=4", "CutMix"):
        mixed = found[study, arm]
        before, after = fmean(none.success), fmean(mixed.success)
        lost = _lost(none, mixed)
        claims.append(
            Claim(
                f"{study}: {arm} at least halves its success ({before:.2f} to "
                f"{after:.2f}) for at most {100 * CHEAP:.0f} points of accuracy ({lost:.1f})",
                after <= before / 2 and lost <= 100 * CHEAP,
            )
        )
    return claims


def _lost(before: Trials, after: Trials) -> float:
    """Points of accuracy by which the median fell."""
    return 100 * (median(before.accuracy) - median(after.accuracy))

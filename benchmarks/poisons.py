"""Success of crafted poisons, beside random changes of the same size and no change at all.

The central setting of the papers, and a federated one: ten clients, of which one crafts poisons on
its own images.
"""

from pathlib import Path
from statistics import fmean, median

from benchmarks.poison_studies import (
    ARMS,
    Found,
    Study,
    beats_random,
    figures_of,
    measure,
)
from benchmarks.report import Claim, Figure

POINT = 0.01
"""Clean accuracy that targeted poisons may cost."""
LOST = 0.15
"""Accuracy that availability poisons have to cost beside the control."""
ALONE = {"poison": ARMS["poison"]}
"""Arms of a study whose controls are those of another one."""

BREW = {"attack": "gradient-matching", "share": 0.05, "restarts": 1, "augment": False}
META = {
    "attack": "metapoison",
    "share": 0.05,
    "epsilon": 16 / 255,
    "against": "own",
    "when": "once",
    "steps": 20,
    "ensemble": 4,
    "epochs": 8,
}
PLAIN = {"batch_size": 125, "lr": 0.1, "lr_decay": 1.0, "momentum": 0.0, "weight_decay": 0.0}
"""MetaPoison's own training."""
OWNER = {"attack": "availability", "steps": 40}
YOUNG = {"alignment": 5, "adversarial": 10}
"""Epochs of the network that availability poisons are made against: alignment wants one that has
still to learn."""

BREWED = Study(
    "Witches' Brew, one owner",
    {**BREW, "against": "own", "when": "once", "steps": 80, "epochs": 14},
    trials=20,
    rounds=14,
    training={"lr_decay": 0.85},
)
STUDIES = (
    BREWED,
    Study(
        "Witches' Brew, 1 of 10 clients",
        {**BREW, "share": 0.1, "steps": 40},
        trials=20,
        clients=10,
        training={"epochs": 2, "batch_size": 32},
        more={"rounds": "4-", "update": {"attack": "scaling", "factor": 5.0}},
    ),
    *(
        Study(
            f"MetaPoison, K={unroll}",
            {**META, "unroll": unroll},
            trials=10,
            file="fashion_mnist.npz",
            images=2_000,
            width=8,
            rounds=8,
            training=PLAIN,
            arms=ALONE if unroll == 1 else ARMS,
        )
        for unroll in (1, 2)
    ),
    *(
        Study(
            f"availability by {method}",
            {**OWNER, "method": method, "epochs": YOUNG[method]},
            trials=3,
            aim="accuracy",
            images=2_000,
            rounds=14,
            training={"batch_size": 32, "lr_decay": 0.85},
            arms=ALONE if method == "adversarial" else ARMS,
        )
        for method in ("alignment", "adversarial")
    ),
)
"""Sizes for half an hour of two cores."""


def measure_poisons(
    images: Path, kept: Path, *, device: str, processes: int, trials: int | None = None
) -> tuple[list[Figure], list[Claim]]:
    """Run all studies; the arguments are those of ``poison_studies.measure``."""
    found = measure(STUDIES, images, kept, device=device, processes=processes, trials=trials)
    return figures_of(found), [
        *_targeted(BREWED.name, found),
        *_targeted("Witches' Brew, 1 of 10 clients", found),
        *_looking_ahead(found),
        *_availability(found),
    ]


def _targeted(study: str, found: Found) -> list[Claim]:
    cost = median(found[study, "none"].accuracy) - median(found[study, "poison"].accuracy)
    return [
        beats_random(study, found),
        Claim(f"{study}: at a cost of {100 * cost:.1f} points of accuracy", cost <= POINT),
    ]


def _looking_ahead(found: Found) -> list[Claim]:
    one, two = (fmean(found[f"MetaPoison, K={k}", "poison"].margin) for k in (1, 2))
    control = fmean(found["MetaPoison, K=2", "random"].margin)
    return [
        Claim(
            f"MetaPoison: mean margin on new victims {two:.2f}, after a random change "
            f"{control:.2f}",
            two < control,
        ),
        Claim(f"MetaPoison: looking two steps ahead {two:.2f}, one step {one:.2f}", two <= one),
    ]


def _availability(found: Found) -> list[Claim]:
    control = found["availability by alignment", "random"]
    claims = []
    for method in YOUNG:
        poison = found[f"availability by {method}", "poison"]
        last, peak = (
            median(one) - median(other)
            for one, other in ((control.accuracy, poison.accuracy), (control.peak, poison.peak))
        )
        claims.append(
            Claim(
                f"availability by {method}: {100 * last:.0f} points of accuracy lost beside the "
                f"control, {100 * peak:.0f} at the peak",
                last >= LOST,
            )
        )
    return claims

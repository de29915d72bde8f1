"""Success of crafted poisons, beside random changes of the same size and no change at all.

A trial is a test image drawn by seed, an intended class, and a victim trained from scratch; a
success rate takes twenty trials. The central setting of the papers is a federation with one
client; the federated setting has ten clients, of which one crafts poisons on its own images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any

from scipy.stats import binomtest

from attacks.poisoning.meta_loss import margin
from benchmarks.report import THREADS, Claim, Figure
from fedlab.client.federated_data import FederatedData
from fedlab.comparison.runner import finished
from fedlab.core.modes import evaluation
from fedlab.evaluation.scoreboard import Scoreboard
from fedlab.results.checkpoint import Checkpoint
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario

CLASSES = 10
POINT = 0.01
"""Clean accuracy that targeted poisons may cost."""
LOST = 0.15
"""Accuracy that availability poisons have to cost beside the control."""
NOTHING = {"epsilon": 0.5 / 255, "control": True}
"""A change that rounds to none: the same run, unpoisoned."""
ARMS: Mapping[str, Mapping[str, Any]] = {
    "none": NOTHING,
    "random": {"control": True},
    "poison": {},
}


@dataclass(frozen=True)
class Study:
    """A study of one poison in one setting.

    Attributes:
        name: Name of the study in the report.
        poison: Settings of the data poison, without its target.
        trials: Number of trials, one for each seed.
        targeted: Whether the poison aims at one image.
        file: Name of the file with the images.
        images: Number of training images.
        width: Width of the network.
        clients: Number of clients, of which the last one poisons.
        rounds: Number of rounds of every run.
        training: Local training of every client.
        more: Further settings of the poisoning role.
        arms: Names of the compared arms in ``ARMS``.
    """

    name: str
    poison: Mapping[str, Any]
    trials: int
    targeted: bool = True
    file: str = "cifar10.npz"
    images: int = 4_000
    width: int = 16
    clients: int = 1
    rounds: int = 10
    training: Mapping[str, Any] | None = None
    more: Mapping[str, Any] | None = None
    arms: Sequence[str] = tuple(ARMS)

    def scenario(self, arm: str, seed: int, folder: Path, device: str) -> Scenario:
        """The scenario of one run.

        Args:
            arm: Name of the arm.
            seed: Seed that draws image, class and weights.
            folder: Folder with the images.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
        """
        aim = {"target": seed % CLASSES} if self.targeted else {}
        role = {"role": "poisoning", "clients": str(self.clients - 1), **(self.more or {})}
        return Scenario(
            name=f"{self.name}, {arm}",
            rounds=self.rounds,
            seed=seed,
            data={
                "source": f"npz:{folder / self.file}",
                "train": self.images,
                "test": 2_000,
                "clients": self.clients,
            },
            model={"name": "convnet", "width": self.width},
            training={**TRAINING, **(self.training or {})},
            roles=[role | {"data": {**self.poison, **aim, **ARMS[arm]}}],
            engine={"device": device, "threads": THREADS, "workers": 1},
        )


TRAINING = {
    "batch_size": 64,
    "lr": 0.05,
    "lr_decay": 0.75,
    "momentum": 0.9,
    "weight_decay": 5e-4,
}
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

STUDIES = (
    Study(
        "Witches' Brew, one owner",
        {**BREW, "against": "own", "when": "once", "steps": 80, "epochs": 14},
        trials=20,
        rounds=14,
        training={"lr_decay": 0.85},
    ),
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
            arms=("poison",) if unroll == 1 else tuple(ARMS),
        )
        for unroll in (1, 2)
    ),
    *(
        Study(
            f"availability by {method}",
            {**OWNER, "method": method, "epochs": YOUNG[method]},
            trials=3,
            targeted=False,
            images=2_000,
            rounds=14,
            training={"batch_size": 32, "lr_decay": 0.85},
            arms=("poison",) if method == "adversarial" else tuple(ARMS),
        )
        for method in ("alignment", "adversarial")
    ),
)
"""Sizes for half an hour of two cores."""


@dataclass(frozen=True)
class Trials:
    """The results of one arm of a study, one value for each seed.

    Attributes:
        accuracy: Accuracy after the last round.
        peak: Highest accuracy of any round.
        success: 1 where the target was classified as intended, else 0.
        margin: Logit of the best other class minus that of the intended class.
    """

    accuracy: Sequence[float]
    peak: Sequence[float]
    success: Sequence[float] = ()
    margin: Sequence[float] = ()

    @property
    def hits(self) -> int:
        """Number of trials that succeeded."""
        return round(sum(self.success))

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the success rate."""
        found = binomtest(self.hits, len(self.success)).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        """The success rate with its interval."""
        low, high = self.interval
        return f"{self.hits} of {len(self.success)} ({100 * low:.0f} to {100 * high:.0f} %)"


def measure_poisons(
    images: Path, kept: Path, *, device: str, processes: int, trials: int | None = None
) -> tuple[list[Figure], list[Claim]]:
    """Run all studies.

    Args:
        images: Folder with the .npz files.
        kept: Folder in which finished runs are kept.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        processes: Number of runs at a time.
        trials: Number of trials of each study; its own number unless given.
    """
    cells = {
        _name(study, arm, seed): study.scenario(arm, seed, images, device)
        for study in STUDIES
        for arm, seed in product(study.arms, range(trials or study.trials))
    }
    runs = finished(cells, kept, processes=processes)
    found = {
        (study.name, arm): _trials(
            study, [runs[_name(study, arm, s)] for s in range(trials or study.trials)]
        )
        for study in STUDIES
        for arm in study.arms
    }
    figures = []
    for (study, arm), each in found.items():
        figures.append(Figure(f"{study}, {arm}: accuracy", "", each.accuracy))
        if each.success:
            figures += [
                Figure(f"{study}, {arm}: success", "", [fmean(each.success)]),
                Figure(f"{study}, {arm}: margin of the best other class", "", each.margin),
            ]
        else:
            figures.append(Figure(f"{study}, {arm}: peak accuracy", "", each.peak))
    return figures, [
        *_targeted("Witches' Brew, one owner", found),
        *_targeted("Witches' Brew, 1 of 10 clients", found),
        *_looking_ahead(found),
        *_availability(found),
    ]


Found = Mapping[tuple[str, str], Trials]


def _targeted(study: str, found: Found) -> list[Claim]:
    poison, control = found[study, "poison"], found[study, "random"]
    cost = median(found[study, "none"].accuracy) - median(poison.accuracy)
    return [
        Claim(
            f"{study}: the target is taken for what was intended in {poison} trials, after a "
            f"random change in {control}",
            poison.interval[0] > control.interval[1],
        ),
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
    for method in ("alignment", "adversarial"):
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


def _trials(study: Study, runs: Sequence[RunFolder]) -> Trials:
    rows = [run.rounds() for run in runs]
    accuracy = [each[-1].accuracy for each in rows]
    peak = [max(row.accuracy for row in each) for each in rows]
    if not study.targeted:
        return Trials(accuracy, peak)
    success = [each[-1].attack_success_rate or 0.0 for each in rows]
    return Trials(accuracy, peak, success, [_margin(run) for run in runs])


def _margin(run: RunFolder) -> float:
    """Margin of the target image under the final weights."""
    federated = FederatedData.of(run.scenario)
    (goal,) = Scoreboard.of(run.scenario, federated).goals
    federated.load(Checkpoint.load(run.checkpoint).state)
    with evaluation(federated.model):
        return float(margin(federated.model(federated.network_input(goal.images)), goal.wanted))


def _name(study: Study, arm: str, seed: int) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in study.name.lower())
    return f"{plain}-{arm}-{seed}"

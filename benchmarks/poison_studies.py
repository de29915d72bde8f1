"""Studies of poisons: arms that are compared over trials, each with its own seed.

A trial of a targeted poison is a test image drawn by seed, an intended class, and a victim trained
from scratch. The central setting of the papers is a federation with one client.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

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
TRAINING = {
    "batch_size": 64,
    "lr": 0.05,
    "lr_decay": 0.75,
    "momentum": 0.9,
    "weight_decay": 5e-4,
}


@dataclass(frozen=True)
class Arm:
    """An arm of a study.

    Attributes:
        poison: Settings of the poison that differ from the study's.
        defenses: Defenses that every client runs, the poisoning one included.
    """

    poison: Mapping[str, Any] = field(default_factory=dict)
    defenses: Sequence[Mapping[str, Any]] = ()


ARMS: Mapping[str, Arm] = {
    # A change that rounds to none: the same run, unpoisoned.
    "none": Arm({"epsilon": 0.5 / 255, "control": True}),
    "random": Arm({"control": True}),
    "poison": Arm(),
}
"""Arms of a crafted poison by name: no change, a random change of the same size, the poison."""


@dataclass(frozen=True)
class Study:
    """A study of one poison in one setting.

    Attributes:
        name: Name of the study in the report.
        poison: Settings of the data poison, without its target.
        trials: Number of trials, one for each seed.
        aim: What the poison changes: the class of one ``image``, of all images with a ``trigger``,
            or the ``accuracy``.
        file: Name of the file with the images.
        images: Number of training images.
        width: Width of the network.
        clients: Number of clients, of which the last one poisons.
        rounds: Number of rounds of every run.
        training: Local training of every client.
        more: Further settings of the poisoning role.
        arms: The compared arms by name.
    """

    name: str
    poison: Mapping[str, Any]
    trials: int
    aim: Literal["image", "trigger", "accuracy"] = "image"
    file: str = "cifar10.npz"
    images: int = 4_000
    width: int = 16
    clients: int = 1
    rounds: int = 10
    training: Mapping[str, Any] | None = None
    more: Mapping[str, Any] | None = None
    arms: Mapping[str, Arm] = field(default_factory=lambda: ARMS)

    def __str__(self) -> str:
        """The sizes of the study, for a report."""
        return (
            f"{self.name}: {self.trials} seeds, {self.images:,} images of {self.file}, convnet of "
            f"width {self.width}, {self.rounds} rounds"
        )

    def scenario(self, arm: str, seed: int, folder: Path, device: str) -> Scenario:
        """The scenario of one run.

        Args:
            arm: Name of the arm.
            seed: Seed that draws image, class and weights.
            folder: Folder with the images.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
        """
        target = {} if self.aim == "accuracy" else {"target": seed % CLASSES}
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
            roles=[role | {"data": {**self.poison, **target, **self.arms[arm].poison}}],
            defenses=self.arms[arm].defenses,
            engine={"device": device, "threads": THREADS, "workers": 1},
        )


@dataclass(frozen=True)
class Trials:
    """The results of one arm of a study, one value for each seed.

    Attributes:
        accuracy: Accuracy after the last round.
        peak: Highest accuracy of any round.
        success: Share of the goal's images that are classified as intended, for a single image 1
            or 0; none if the poison aims at the accuracy.
        margin: Logit of the best other class minus that of the intended class; of poisons that
            aim at one image.
    """

    accuracy: Sequence[float]
    peak: Sequence[float]
    success: Sequence[float] = ()
    margin: Sequence[float] = ()

    @classmethod
    def of(cls, study: Study, runs: Sequence[RunFolder]) -> "Trials":
        """The results of finished runs."""
        rows = [run.rounds() for run in runs]
        accuracy = [each[-1].accuracy for each in rows]
        peak = [max(row.accuracy for row in each) for each in rows]
        if study.aim == "accuracy":
            return cls(accuracy, peak)
        success = [each[-1].attack_success_rate or 0.0 for each in rows]
        margins = [_margin(run) for run in runs] if study.aim == "image" else ()
        return cls(accuracy, peak, success, margins)

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

    def figures(self, name: str) -> list[Figure]:
        """The figures of the arm, each with this name in front."""
        figures = [Figure(f"{name}: accuracy", "", self.accuracy)]
        if self.margin:
            return [
                *figures,
                Figure(f"{name}: success", "", [fmean(self.success)]),
                Figure(f"{name}: margin of the best other class", "", self.margin),
            ]
        if self.success:
            return [*figures, Figure(f"{name}: success", "", self.success)]
        return [*figures, Figure(f"{name}: peak accuracy", "", self.peak)]


Found = Mapping[tuple[str, str], Trials]
"""Results by the names of study and arm."""


def measure(
    studies: Sequence[Study],
    images: Path,
    kept: Path,
    *,
    device: str,
    processes: int,
    trials: int | None = None,
) -> Found:
    """Run all trials that have not run yet, study by study.

    Args:
        studies: The studies.
        images: Folder with the .npz files.
        kept: Folder in which finished runs are kept.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        processes: Number of runs at a time.
        trials: Number of trials of each study; its own number unless given.
    """
    keys = [
        (study, arm, seed)
        for study in studies
        for arm, seed in product(study.arms, range(trials or study.trials))
    ]
    runs = finished(
        {_name(*key): key[0].scenario(*key[1:], images, device) for key in keys},
        kept,
        processes=processes,
    )
    return {
        (study.name, arm): Trials.of(
            study, [runs[_name(study, arm, seed)] for seed in range(trials or study.trials)]
        )
        for study in studies
        for arm in study.arms
    }


def figures_of(found: Found) -> list[Figure]:
    """All figures, in the order of the studies."""
    return [
        figure for (study, arm), each in found.items() for figure in each.figures(f"{study}, {arm}")
    ]


def beats_random(study: str, found: Found) -> Claim:
    """The claim that a poison hits more often than a random change, by their intervals."""
    poison, control = found[study, "poison"], found[study, "random"]
    return Claim(
        f"{study}: the target is taken for what was intended in {poison} trials, after a "
        f"random change in {control}",
        poison.interval[0] > control.interval[1],
    )


def _margin(run: RunFolder) -> float:
    """Margin of the target image under the final weights."""
    federated = FederatedData.of(run.scenario)
    (goal,) = Scoreboard.of(run.scenario, federated).goals
    federated.load(Checkpoint.load(run.checkpoint).state)
    with evaluation(federated.model):
        return float(margin(federated.model(federated.network_input(goal.images)), goal.wanted))


def _name(study: Study, arm: str, seed: int) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in f"{study.name}-{arm}".lower())
    return f"{plain}-{seed}"

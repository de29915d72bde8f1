"""What each defense costs and what it stops: accuracy, backdoor, reconstruction, epsilon, time.

Of ten clients one sends the gradient of four images and two plant a backdoor, once with the
scheduled defense and once without it. Every arm runs with every seed. Finished runs are kept, so an
interrupted table can be continued.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.arms import ARMS, FIVE
from benchmarks.defense_cost import cost
from benchmarks.options import Options
from benchmarks.report import THREADS, Claim, Figure, Report
from fedlab.comparison.runner import finished
from fedlab.core.errors import BadInput
from fedlab.privacy.accounts import ACCOUNTS
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario

KEPT = Path("runs") / "benchmarks" / "defenses"
"""Finished runs; empty it to measure anew."""

SEEDS = 3
ONE = 1
"""An honest client, whose epsilon is told."""

ATTACK = {"clients": "0", "preset": "fast", "labels": "known", "iterations": 300}

HOW = (
    "name a folder with fashion_mnist.npz, and cifar10.npz if there is time, with --data, made by "
    "`python ../shared/data/make_npz.py fashion_mnist FOLDER/fashion_mnist.npz --train 4000 "
    "--test 2000`"
)


@dataclass(frozen=True)
class Study:
    """One data set and the comparison on it.

    Attributes:
        file: Name of its file in the folder of ``--data``.
        images: Number of training images.
        rounds: Number of rounds of every run.
        arms: Names of the compared defenses in ``ARMS``.
    """

    file: str
    images: int
    rounds: int
    arms: Sequence[str]


STUDIES = (
    Study("fashion_mnist.npz", 4_000, 15, tuple(ARMS)),
    Study("cifar10.npz", 6_000, 12, FIVE),
)


def scenario(
    study: Study, folder: Path, arm: str, *, obeys: bool, seed: int, device: str
) -> Scenario:
    """The scenario of one run of the table.

    Args:
        study: The data set, with its numbers of images and rounds.
        folder: Folder with the images.
        arm: Name of the defense in ``ARMS``.
        obeys: Whether the poisoning clients run the defense.
        seed: Root seed of the run.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    open_run = Scenario(
        name=f"{arm}, poisoners {'obey' if obeys else 'do not obey'}",
        rounds=study.rounds,
        seed=seed,
    )
    return open_run.changed(
        data={
            "source": f"npz:{folder / study.file}",
            "train": study.images,
            "test": 2_000,
            "clients": 10,
        },
        model={"name": "convnet", "width": 32},
        training={"epochs": 2, "batch_size": 32, "lr": 0.1},
        roles=[
            {"role": "leaking", "clients": "0", "batch_size": 4},
            {
                "role": "poisoning",
                "clients": "8-9",
                "data": {"attack": "badnets", "target": 0, "share": 0.5, "size": 3},
                "obeys_defenses": obeys,
            },
        ],
        reconstructions=[
            {"rounds": "1", **ATTACK},
            # As suits trained networks; see ``benchmarks.families``.
            {"rounds": f"{study.rounds // 2},{study.rounds}", **ATTACK, "tv": 0.1, "lr": 0.3},
        ],
        engine={"device": device, "threads": THREADS, "workers": 1},
        **ARMS[arm],
    )


def run(options: Options) -> Report:
    """Measure the costs, and fill the tables of the data sets that are there.

    Raises:
        BadInput: If there are no images.
        RunFailed: If a run cannot go on.
    """
    folder = options.data
    studies = [each for each in STUDIES if folder and (folder / each.file).is_file()]
    if folder is None or not studies:
        raise BadInput(HOW)
    seeds = range(options.repeats or SEEDS)
    open_run = scenario(studies[0], folder, "none", obeys=True, seed=0, device=options.device)
    figures, claims = cost(open_run)
    for study in studies:
        more, held = _table(study, folder, seeds, options)
        figures, claims = [*figures, *more], [*claims, *held]
    return Report(
        title="What does each defense cost, and what does it stop?",
        settings={
            "images": "; ".join(f"{each.images:,} of {each.file}" for each in studies),
            "clients": "10: 1 leaking batches of 4, 2 poisoning (BadNets, half of their images)",
            "network": "convnet of width 32",
            "training": "2 epochs a round, batch 32, learning rate 0.1",
            "rounds": ", ".join(str(each.rounds) for each in studies),
            "attack": "fast, 300 iterations, labels known, re-tuned per defense and, after "
            "round 1, for trained networks",
            "seeds": ", ".join(map(str, seeds)),
        },
        figures=figures,
        claims=claims,
    )


def _table(
    study: Study, folder: Path, seeds: Sequence[int], options: Options
) -> tuple[list[Figure], list[Claim]]:
    keys = list(product(study.arms, (True, False), seeds))
    names = {key: _name(study, *key) for key in keys}
    runs = finished(
        {
            names[arm, obeys, seed]: scenario(
                study, folder, arm, obeys=obeys, seed=seed, device=options.device
            )
            for arm, obeys, seed in keys
        },
        KEPT,
        processes=options.processes,
    )
    rows = {
        arm: _Row.of(
            [runs[names[arm, True, seed]] for seed in seeds],
            [runs[names[arm, False, seed]] for seed in seeds],
        )
        for arm in study.arms
    }
    label = study.file.removesuffix(".npz")
    figures = [figure for arm, row in rows.items() for figure in row.figures(f"{label}, {arm}")]
    return figures, _claims(label, rows)


def _name(study: Study, arm: str, obeys: bool, seed: int) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in arm.lower())
    return f"{study.file.removesuffix('.npz')}-{plain}-{'obey' if obeys else 'not'}-{seed}"


@dataclass(frozen=True)
class _Row:
    """The results of one arm, one value for each seed.

    Attributes:
        accuracy: Accuracy on clean test images where poisoning clients run the defense.
        backdoor: Attack success rate where poisoning clients run the defense.
        disobeyed: Attack success rate where poisoning clients do not run the defense.
        psnr: Median PSNR of the attacked images in dB; none where the sum hid them.
        above: Median PSNR minus that of chance, in dB.
        iip: Share of the attacked images that were identified.
        epsilon: Epsilon of an honest client's rounds, in the account of its mechanism.
    """

    accuracy: Sequence[float]
    backdoor: Sequence[float]
    disobeyed: Sequence[float]
    psnr: Sequence[float]
    above: Sequence[float]
    iip: Sequence[float]
    epsilon: Sequence[float]

    @classmethod
    def of(cls, obeying: Sequence[RunFolder], others: Sequence[RunFolder]) -> "_Row":
        leaks = [run.table("leakage") for run in obeying]
        seen = [leak[leak["target"] == "original"] for leak in leaks if len(leak)]
        return cls(
            accuracy=[run.rounds()[-1].accuracy for run in obeying],
            backdoor=[run.rounds()[-1].attack_success_rate or 0.0 for run in obeying],
            disobeyed=[run.rounds()[-1].attack_success_rate or 0.0 for run in others],
            psnr=[float(each["psnr"].median()) for each in seen],
            above=[float((each["psnr"] - each["chance_psnr"]).median()) for each in seen],
            iip=[float(each["iip"].mean()) for each in seen],
            epsilon=[value for run in obeying if (value := _epsilon(run)) is not None],
        )

    def figures(self, arm: str) -> list[Figure]:
        hidden = "the server saw a sum over too many images to attack"
        none = "no round of it has one"
        return [
            Figure(f"{arm}: accuracy", "", self.accuracy),
            Figure(f"{arm}: backdoor, obeying", "", self.backdoor),
            Figure(f"{arm}: backdoor, not obeying", "", self.disobeyed),
            Figure(f"{arm}: PSNR", "dB", self.psnr, failure=hidden),
            Figure(f"{arm}: PSNR above chance", "dB", self.above, failure=hidden),
            Figure(f"{arm}: IIP", "", self.iip, failure=hidden),
            Figure(f"{arm}: epsilon", "", self.epsilon, failure=none),
        ]


def _epsilon(run: RunFolder) -> float | None:
    """Epsilon of an honest client's rounds, in the account of the mechanism that it ran."""
    ledger = run.ledger()
    history = ledger.histories[ONE]
    account = ACCOUNTS.get(history[-1].mechanism)
    if account is None:
        return None
    return account.epsilon(history, accountant=ledger.accountant, delta=ledger.delta)


def _claims(label: str, rows: Mapping[str, _Row]) -> list[Claim]:
    """The claims of the papers, where the arms that show them were run."""
    success = {arm: median(row.backdoor) for arm, row in rows.items()}
    accuracy = {arm: median(row.accuracy) for arm, row in rows.items()}
    claims = []
    order = ("none", "noise 16 only", "DP-InstaHide k=4, 16")
    if all(arm in rows for arm in order):
        numbers = [success[arm] for arm in order]
        claims.append(
            Claim(
                f"{label}: backdoor success falls from open over noise to mixing with noise: "
                + " > ".join(f"{value:.2f}" for value in numbers),
                numbers[0] > numbers[1] > numbers[2],
            )
        )
    lost = 100 * (accuracy["none"] - accuracy["CutMix"])
    claims.append(
        Claim(
            f"{label}: CutMix at least halves it ({success['none']:.2f} to "
            f"{success['CutMix']:.2f}) for at most 2 points of accuracy ({lost:.1f})",
            success["CutMix"] <= success["none"] / 2 and lost <= 2,
        )
    )
    return claims

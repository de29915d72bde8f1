"""Defenses that papers compare with: accuracy, what leaks to which attack, and time.

All clients of a short federation run the defense, which gives accuracy and time. In another one
each of eight clients leaks one image to three attacks of equal length: ``fast`` as it is, ``fast``
adapted to the defense, and ``auto``, which tunes itself on surrogate clients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor

from benchmarks.options import Options, cifar
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.defenses.concealed_samples import ConcealedSamples, concealed, others_of
from fedlab.evaluation.replay import replay
from fedlab.metrics.images import psnr
from fedlab.metrics.intervals import share_interval
from fedlab.metrics.verdict import LEAKS
from fedlab.protocol.planning import task_for
from fedlab.results.rows import LeakageRow
from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture
from fedlab.simulation.federation import Federation

SEEDS = 3
IMAGES = 2_000
"""Number of training images, and of test images, which stand for public ones."""

CLIENTS = 8
"""Number of clients that leak one image each."""

ITERATIONS = 60
"""Iterations of every attack; the choice of settings of ``auto`` takes 14 times as many on top."""

VICTIMS = 1
"""Seed of the leaking clients; the adaptive attacks were developed on those of seed 0."""

ROUNDS, WIDTH = 10, 16
OPEN, CONCEALED = "none", "DCS-2"

ATTACKS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"preset": "fast", "adapt": False},
    "adaptive": {"preset": "fast"},
    "auto": {"preset": "auto"},
}
"""Settings of the attacks by name."""


@dataclass(frozen=True)
class Arm:
    """A defense that is measured.

    Attributes:
        defense: Table of the defense; ``None`` for none.
        trained: Settings that differ in the federation that is trained.
        model: Settings of the network.
    """

    defense: Mapping[str, Any] | None = None
    trained: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)

    def tables(self, *, trained: bool) -> dict[str, Any]:
        """The tables of a scenario that the arm sets."""
        own = (
            [] if self.defense is None else [{**self.defense, **(self.trained if trained else {})}]
        )
        return {"defenses": own, "model": {"name": "convnet", "width": WIDTH, **self.model}}


ARMS: Mapping[str, Arm] = {
    OPEN: Arm(),
    "dual pruning": Arm({"name": "dual-pruning"}),
    "learning rate": Arm({"name": "lr-perturbation"}),
    "OUTPOST": Arm({"name": "outpost"}),
    "CENSOR": Arm({"name": "censor"}),
    "PRECODE": Arm(model={"bottleneck": 256}),
    "ATS": Arm({"name": "ats"}),
    "GradDefense": Arm({"name": "grad-defense"}),
    # Training with 500 steps of the search for every local step would take hours.
    CONCEALED: Arm({"name": "dcs-2"}, trained={"iterations": 4}),
}


def run(options: Options) -> Report:
    """Measure all defenses.

    Raises:
        BadInput: If there are no images.
    """
    source = f"npz:{cifar(options)}"
    seeds = range(options.repeats or SEEDS)
    trained: dict[str, list[_Trained]] = {arm: [] for arm in ARMS}
    for seed in seeds:  # all arms in turn, so that a busy machine slows them alike
        for arm in ARMS:
            trained[arm].append(train(source, arm, seed, options.device))
    figures, leaked = [], {}
    for arm, done in trained.items():
        times = [one.seconds / base.seconds for one, base in zip(done, trained[OPEN], strict=True)]
        figures.append(Figure(f"{arm}: accuracy", "", [one.accuracy for one in done]))
        figures.append(Figure(f"{arm}: time of a round", "", times))
        leaked[arm], more = attack(source, arm, options.device)
        figures += [*_leaks(arm, leaked[arm]), *more]
        console.print(f"{arm}: {_words(leaked[arm])}", soft_wrap=True)
    return Report(
        title="What do the defenses of the papers cost, and what do they stop?",
        settings={
            "images": "of --data, 2,000 to train on and 2,000 to test",
            "network": f"convnet of width {WIDTH}",
            "training": f"10 clients, {ROUNDS} rounds of one epoch, batch 32, learning rate 0.1",
            "seeds": ", ".join(map(str, seeds)),
            "victims": f"{CLIENTS} clients, the gradient of one image each, untrained network",
            "attacks": f"{ITERATIONS} iterations, labels known; the tuning of auto comes on top",
            "defenses": "defaults; PRECODE with 256 units; DCS-2 trained with 4 search steps",
        },
        figures=figures,
        claims=_claims(trained, leaked),
    )


@dataclass(frozen=True)
class _Trained:
    """Accuracy after the last round, and median CPU time of a round in seconds."""

    accuracy: float
    seconds: float


Leaked = Mapping[str, Sequence[LeakageRow]]
"""Rows of the leaking clients' images by the name of the attack."""


def scenario(source: str, arm: str, *, seed: int, trained: bool, device: str) -> Scenario:
    """The scenario of one arm.

    Args:
        source: Data set.
        arm: A key of ``ARMS``.
        seed: Root seed.
        trained: True for the federation that is trained, false for the one that leaks.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    plain = Scenario(name=f"defenses of papers, {arm}", rounds=ROUNDS if trained else 1, seed=seed)
    return plain.changed(
        data={
            "source": source,
            "train": IMAGES,
            "test": IMAGES,
            "clients": 10 if trained else CLIENTS,
        },
        training={"batch_size": 32, "lr": 0.1},
        roles=[] if trained else [{"role": "leaking", "batch_size": 1}],
        captures={"keep": "none" if trained else "all"},
        engine={"device": device, "threads": THREADS, "workers": 1},
        **ARMS[arm].tables(trained=trained),
    )


def train(source: str, arm: str, seed: int, device: str) -> _Trained:
    """Run the federation whose clients all train under the defense."""
    federation = Federation(scenario(source, arm, seed=seed, trained=True, device=device))
    federation.run()
    rounds = [row for row in federation.folder.rounds() if row.round]
    return _Trained(rounds[-1].accuracy, median(row.cpu_seconds for row in rounds))


def attack(source: str, arm: str, device: str) -> tuple[Leaked, list[Figure]]:
    """Attack the image of every leaking client, and what else is to be seen under the defense."""
    federation = Federation(scenario(source, arm, seed=VICTIMS, trained=False, device=device))
    federation.step()
    rows: dict[str, list[LeakageRow]] = {name: [] for name in ATTACKS}
    hidden = []
    for client in range(CLIENTS):
        for name, settings in ATTACKS.items():
            leak = federation.reconstruct(
                round=1,
                client=client,
                labels="known",
                iterations=ITERATIONS,
                power=False,
                **settings,
            )
            rows[name] += [row for row in leak.rows if row.target == "original"]
            if arm == CONCEALED and name == "adaptive":
                hidden.append(_likeness(federation, client, leak.rebuilt))
    name = f"{arm}: adaptive, PSNR to the concealing image"
    return rows, [Figure(name, "dB", hidden)] if hidden else []


def _likeness(federation: Federation, client: int, rebuilt: Tensor) -> float:
    """PSNR in dB between a reconstruction and the image that DCS-2 concealed the true one by."""
    capture = Capture.load(federation.folder.captures, round=1, client=client)
    federated, (defense,) = federation.federated, federation.scenario.defenses
    assert isinstance(defense, ConcealedSamples)
    task = task_for(federation.scenario, round=1, client=client)
    truth = replay(federated, capture, {client: task}, {})
    federated.load(capture.global_state)
    public, data = federated.test, federated.data
    draws = federated.stream(1, client)(defense.name)
    (place,) = others_of(public, truth.labels, generator=draws).tolist()
    found = concealed(
        federated.model,
        data.normalise(truth.inputs),
        truth.labels,
        federated.network_input(public.images[place : place + 1]),
        public.labels[place : place + 1],
        defense,
    )
    mean, std = (torch.tensor(each).view(-1, 1, 1).to(found) for each in (data.mean, data.std))
    return float(psnr((found * std + mean).clamp(0, 1), rebuilt.to(found)))


def _leaks(arm: str, leaked: Leaked) -> list[Figure]:
    figures = []
    for name, rows in leaked.items():
        hits = [float(row.verdict == LEAKS) for row in rows]
        figures.append(Figure(f"{arm}: {name}, leaks", "", hits))
        figures.append(Figure(f"{arm}: {name}, PSNR", "dB", [row.aligned_psnr for row in rows]))
    return figures


def _count(rows: Sequence[LeakageRow]) -> int:
    return sum(row.verdict == LEAKS for row in rows)


def _words(leaked: Leaked) -> str:
    parts = []
    for name, rows in leaked.items():
        hits = [int(row.verdict == LEAKS) for row in rows]
        low, high = share_interval(hits, [1] * len(hits))
        quality = fmean(row.aligned_psnr for row in rows)
        parts.append(
            f"{sum(hits)} of {len(hits)} leak to {name} (95 % interval {low:.2f} to {high:.2f}, "
            f"{quality:.1f} dB)"
        )
    return ", ".join(parts)


def _claims(trained: Mapping[str, Sequence[_Trained]], leaked: Mapping[str, Leaked]) -> list[Claim]:
    """What the definitions of the defenses lead one to expect."""
    count = {arm: _count(rows["adaptive"]) for arm, rows in leaked.items()}
    rate = "learning rate"
    censored = median(one.accuracy for one in trained["CENSOR"])
    plain = {arm: fmean(row.aligned_psnr for row in rows["fast"]) for arm, rows in leaked.items()}
    tuned = {
        arm: fmean(row.aligned_psnr for row in rows["adaptive"]) for arm, rows in leaked.items()
    }
    gain = tuned["OUTPOST"] - plain["OUTPOST"]
    return [
        Claim(
            f"a perturbed learning rate hides nothing of one step: {count[rate]} images leak, "
            f"{count[OPEN]} without it",
            count[rate] == count[OPEN],
        ),
        Claim(
            f"what stands out of OUTPOST's noise gives {gain:.1f} dB to the adaptive attack, at "
            "least 3",
            gain >= 3,
        ),
        Claim(
            f"CENSOR hides the images from one update ({count['CENSOR']} leak) and does not learn "
            f"(accuracy {censored:.2f}, at most 0.20)",
            count["CENSOR"] == 0 and censored <= 0.2,
        ),
    ]

"""The self-tuning attack beside every preset and breaching, under each defense.

Each client sends the gradient of one image under one defense. ``auto`` chooses its settings on
surrogate clients, once for each defense. All others count with hindsight: presets as they are and
adapted to the defense, and breaching at six weights of the total variation.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from attacks.reconstruction import PRESETS, AttackSettings, Reconstruction
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.steps import EVALUATIONS
from benchmarks.breaching_peer import invert_with_breaching
from benchmarks.kept import Kept, stamp
from benchmarks.options import Options, cifar
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.defenses import Defense
from fedlab.defenses.cutout import Cutout
from fedlab.defenses.dp_instahide import DPInstaHide
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.defenses.flip_crop import FlipCrop
from fedlab.defenses.maxup import MaxUp
from fedlab.defenses.pruning import Pruning
from fedlab.evaluation.attack_evaluator import AttackEvaluator
from fedlab.evaluation.referee import Referee
from fedlab.evaluation.replay import Truth, replay
from fedlab.evaluation.self_tuning import SelfTuning
from fedlab.metrics.verdict import LEAKS, RECOGNISABLE
from fedlab.protocol.planning import task_for
from fedlab.protocol.round_facts import scheduled_facts
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Data, Engine, Model, Reconstruct, Training
from fedlab.server.captures import Capture

WIDTH = 16
"""Width of the ``convnet``, which is untrained."""

ITERATIONS = 100
"""Iterations of every attack on an image, those of all restarts together."""

IMAGES = 8
"""Number of attacked images under each defense, unless ``--repeats`` gives another."""

SHARD = 4
"""Number of images of a client, as many as DP-InstaHide mixes. It sends the gradient of one."""

FIRST_PUBLIC, FIRST_SCORED = 500, 1_000
"""First test image of the attacker's and of the clients; development used those below 300."""

WEIGHTS = (1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.5)
"""Weights of the total variation for breaching."""

DEFENSES: Mapping[str, Defense] = {
    **{
        f"DP-SGD z={noise:g}": DPSGD(noise_multiplier=noise)
        for noise in (0.0, 0.001, 0.01, 0.1, 0.5)
    },
    "pruning 90 %": Pruning(share=0.9),
    "pruning 99 %": Pruning(share=0.99),
    "DP-InstaHide k=4": DPInstaHide(k=SHARD),
    "flip-crop": FlipCrop(),
    "Cutout": Cutout(),
    "MaxUp": MaxUp(),
}
"""Defenses by the name of their cell."""

AUTO, PEER = "auto", "breaching"
"""Name of the self-tuning attack, and first word of the names of breaching's settings."""


@dataclass(frozen=True)
class Outcome:
    """Result of one attack on one image.

    Attributes:
        grade: Grade by ``fedlab.metrics.verdict.grade``.
        psnr: PSNR in dB after the best flip, shift and change of brightness.
        choice: Settings that ``auto`` chose; empty for other attacks.
    """

    grade: str
    psnr: float
    choice: str = ""


Outcomes = Mapping[str, Outcome]
"""Outcome of each attack that works on an image, by the name of the attack."""


def run(options: Options) -> Report:
    """Attack the images under all defenses, but those that a file keeps.

    Raises:
        BadInput: If there are no images, or not as many as ``--repeats`` asks for.
    """
    path = cifar(options)
    count = options.repeats or IMAGES
    cells = {
        name: Cell.of(path, defense, count, device=options.device)
        for name, defense in DEFENSES.items()
    }
    keep = Kept(options.cells, stamp(Path(path), Path(__file__)), TypeAdapter(dict[str, Outcome]))
    for client in range(count):
        for name, cell in cells.items():
            key = f"{name}, client {client}"
            if key not in keep.results:
                keep.add(key, cell.attacked(client))
            leaking = [one for one, found in keep.results[key].items() if found.grade == LEAKS]
            console.print(f"{key}: leaks to {', '.join(leaking) or 'none'}")
    results = {
        name: [keep.results[f"{name}, client {client}"] for client in range(count)]
        for name in DEFENSES
    }
    return Report(
        title="Does any fixed setting find more under a defense than the self-tuning attack?",
        settings={
            "images": f"CIFAR-10 test images from {FIRST_SCORED} on, one of {SHARD} of each client",
            "public images": f"CIFAR-10 test images from {FIRST_PUBLIC} to {FIRST_SCORED - 1}",
            "network": f"convnet of width {WIDTH}, untrained",
            "iterations": f"{ITERATIONS} of each attack; the tuning of auto comes on top",
            "labels": "known to all, soft ones under DP-InstaHide, which breaching cannot take",
            "breaching": f"0.1.2, inverting gradients, total variation {_listed(WEIGHTS)}",
        },
        figures=[figure for name, found in results.items() for figure in _figures(name, found)],
        claims=[_claim(name, found) for name, found in results.items()],
    )


@dataclass(frozen=True)
class Cell:
    """Clients under one defense and those who attack them.

    Attributes:
        scenario: Scenario with the defense.
        federated: Images of the clients, and the public ones as test images.
        evaluator: Provides the attacker.
        tuning: Chooses the settings of ``auto``.
        referee: Grades what is rebuilt.
    """

    scenario: Scenario
    federated: FederatedData
    evaluator: AttackEvaluator
    tuning: SelfTuning
    referee: Referee

    @classmethod
    def of(cls, path: str, defense: Defense, count: int, *, device: str = "cpu") -> "Cell":
        """The cell of a defense.

        Args:
            path: The .npz file of CIFAR-10.
            defense: The defense that all clients run.
            count: Number of clients.
            device: Device to compute on.

        Raises:
            BadInput: If there are not enough test images.
        """
        scenario = Scenario(
            name="one image of each client",
            data=Data(source=f"npz:{path}", clients=count),
            model=Model(name="convnet", width=WIDTH),
            training=Training(mode="eval"),
            roles=(Leaking(batch_size=1),),
            defenses=(defense,),
            reconstructions=(Reconstruct(labels="known", iterations=ITERATIONS, power=False),),
            engine=Engine(device=device, threads=THREADS, workers=1),
        )
        federated = FederatedData.of(scenario)
        data = federated.data
        if len(data.test_images) < FIRST_SCORED + SHARD * count:
            raise BadInput(
                f"{count} clients need {FIRST_SCORED + SHARD * count} test images, but there are "
                f"{len(data.test_images)}: lower --repeats"
            )
        federated = replace(
            federated,
            data=replace(
                data,
                train_images=data.test_images[FIRST_SCORED:],
                train_labels=data.test_labels[FIRST_SCORED:],
                test_images=data.test_images[FIRST_PUBLIC:FIRST_SCORED],
                test_labels=data.test_labels[FIRST_PUBLIC:FIRST_SCORED],
            ),
            partitions=tuple(torch.split(torch.arange(SHARD * count), SHARD)),
        )
        evaluator = AttackEvaluator(scenario, federated)
        tuning = SelfTuning(federated, evaluator.attacker)
        return cls(scenario, federated, evaluator, tuning, Referee(federated))

    def attacked(self, client: int) -> dict[str, Outcome]:
        """Run all attacks on the image of a client, and grade what they rebuild."""
        torch.set_num_threads(THREADS)
        task = task_for(self.scenario, round=1, client=client)
        state = self.federated.state
        payload = run_client_round(task, self.federated, state, ()).sent
        capture = Capture(1, (client,), state, payload, scheduled_facts(task, self.scenario))
        truth = replay(self.federated, capture, {client: task}, {})
        entry = self.scenario.reconstructions[0]
        defenses = self.scenario.scheduled_defenses(round=1, client=client)
        chosen = self.tuning.tuning(capture, entry, {client: task}, {client: defenses})
        if chosen is None:
            raise ValueError("the self-tuning attack found no surrogate clients")
        found: dict[str, Outcome] = {}
        done: dict[AttackSettings, Outcome] = {}
        for name, attack in {AUTO: chosen.attack, **self._presets(capture, truth)}.items():
            if attack not in done:
                with suppress(ValueError):  # such as the analytic method on a convolution
                    rebuilt = self.evaluator.attacker.attack(
                        capture,
                        entry,
                        labels=truth.labels,
                        generator=torch.Generator().manual_seed(client),
                        attack=attack,
                        check=False,
                    )
                    done[attack] = self._graded(capture, task, truth, rebuilt)
            if attack in done:
                found[name] = done[attack]
        found[AUTO] = replace(found[AUTO], choice=chosen.choice)
        for tv in () if truth.mixed else WEIGHTS:
            rebuilt = self._breached(capture, truth, tv)
            found[f"{PEER}, tv {tv:g}"] = self._graded(capture, task, truth, rebuilt)
        return found

    def _presets(self, capture: Capture, truth: Truth) -> dict[str, AttackSettings]:
        """Settings of the presets at equal iterations, plain and adapted to the defense, by name.

        With known labels some are equal, such as those of ``dlg`` and ``idlg``.
        """
        known = self.evaluator.attacker.knowledge(
            capture, self.scenario.reconstructions[0], truth.labels
        )
        found = {}
        for name, attack in PRESETS.items():
            if attack.tunes:
                continue
            parts = attack.restarts * (EVALUATIONS if attack.optimiser == "l-bfgs" else 1)
            equal: dict[str, Any] = {
                "iterations": ITERATIONS // parts,
                "label_rule": "auto",
                "source": "",
            }
            found[name] = replace(attack, **equal)
            changed = adapted(attack, capture.payload, known, sent=capture.global_state)
            found[f"{name}, adapted"] = replace(changed, **equal)
        return found

    def _breached(self, capture: Capture, truth: Truth, tv: float) -> Reconstruction:
        """Run breaching on the payload as it was sent."""
        data = self.federated.data
        self.federated.load(capture.global_state)
        model = self.federated.model.eval()
        payload = capture.payload.to(self.federated.device)
        found = invert_with_breaching(
            model,
            [payload.tensors[name] for name, _ in model.named_parameters()],
            labels=truth.labels,
            shape=data.shape,
            mean=data.mean,
            std=data.std,
            iterations=ITERATIONS,
            tv=tv,
        )
        return Reconstruction(
            images=found.images,
            labels=truth.labels,
            labels_known=True,
            cost=found.cost,
            costs=torch.zeros(found.iterations),
            restart=0,
            seconds=found.seconds,
            attack=AttackSettings(tv=tv),
        )

    def _graded(
        self, capture: Capture, task: ClientTask, truth: Truth, rebuilt: Reconstruction
    ) -> Outcome:
        leak = self.referee.score(capture, {task.client: task}, truth, rebuilt, preset=AUTO)
        (row,) = [row for row in leak.rows if row.target == "original"]
        return Outcome(row.verdict, max(0.0, row.aligned_psnr))  # 0 where an attack diverged


def _share(found: Sequence[Outcomes], name: str, *grades: str) -> list[float]:
    """1 for each image that an attack brought to one of these grades, else 0."""
    return [float(name in each and each[name].grade in grades) for each in found]


def _quality(found: Sequence[Outcomes], name: str) -> list[float]:
    """PSNR of each image on which an attack works, in dB."""
    return [each[name].psnr for each in found if name in each]


def _rivals(found: Sequence[Outcomes]) -> list[str]:
    """Names of all attacks but ``auto``, that with the most leaks first, then by mean PSNR."""
    names = {name for each in found for name in each} - {AUTO}

    def success(name: str) -> tuple[float, float]:
        return sum(_share(found, name, LEAKS)), sum(_quality(found, name))

    return sorted(names, key=success, reverse=True)


def _figures(cell: str, found: Sequence[Outcomes]) -> Iterator[Figure]:
    rivals = _rivals(found)
    theirs = [name for name in rivals if name.startswith(PEER)]
    best = [name for name in rivals if name not in theirs][:1] + theirs[:1]
    for name in (AUTO, *best):
        yield Figure(f"{cell}: {name}, leaks", "", _share(found, name, LEAKS))
        named = f"{cell}: {name}, leaks or recognisable"
        yield Figure(named, "", _share(found, name, LEAKS, RECOGNISABLE))
        yield Figure(f"{cell}: {name}, aligned PSNR", "dB", _quality(found, name))
    if not theirs:
        yield Figure(f"{cell}: {PEER}", "", failure="breaching takes no soft labels")


def _claim(cell: str, found: Sequence[Outcomes]) -> Claim:
    own, count = int(sum(_share(found, AUTO, LEAKS))), len(found)
    rival = _rivals(found)[0]
    best = int(sum(_share(found, rival, LEAKS)))
    return Claim(
        f"{cell}: {own} of {count} images leak to auto, {best} to the best of "
        f"{len(_rivals(found))} other settings ({rival})",
        own >= best,
    )


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)

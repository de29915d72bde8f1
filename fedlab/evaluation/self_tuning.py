"""The attacker that tunes itself on surrogate clients, and measures its own power on them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from attacks.payload import Payload
from attacks.reconstruction import AttackSettings
from attacks.reconstruction.tuning import Share, SurrogateVictim, Tuning, in_turn
from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.network_errors import NetworkFailed
from fedlab.core.seeds import derive
from fedlab.defenses import AnyDefense
from fedlab.evaluation.attack_job import AttackJob, carried_out
from fedlab.evaluation.learned_inverter import METHOD, InverterTraining
from fedlab.evaluation.referee import Referee
from fedlab.evaluation.surrogates import ClientProfile, SurrogateCapture, surrogate_captures
from fedlab.evaluation.tuning_budget import quality_of, tuned
from fedlab.metrics.verdict import LEAKS
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import Attacker, Earlier, attack_of, most_images
from fedlab.server.captures import READ_OUT, Capture

VICTIMS = 3
"""Number of surrogate clients on which settings are chosen."""

POWER_IMAGES = 8
"""Least number of images of the surrogate clients on which power is measured, other ones."""

INVERTERS = 4
"""Number of trained inverters that are kept in memory, of some 15 MiB each. The attacks on a round
follow each other, and those on clients of one kind share an inverter."""


@dataclass(frozen=True)
class _Kind:
    """A kind of capture and attack, for which one choice of settings serves.

    Attributes:
        key: Everything that distinguishes the kind, as text, but whether labels are known.
        capture: A capture of this kind.
        payload: What the attack on it works on; ``None`` if the simulated clients send something
            else, because they run no defense.
        profiles: The clients to simulate, with the defenses that they run.
        entry: Settings of the attack.
        fished: Number of images of the class that a malicious server fished for.
        earlier: Earlier captures of the same images, which are attacked jointly.
    """

    key: str
    capture: Capture
    payload: Payload | None
    profiles: tuple[ClientProfile, ...]
    entry: Reconstruct
    fished: int
    earlier: tuple[Capture, ...]


class SelfTuning:
    """Chooses settings on surrogate clients, once for each kind of client.

    Clients are of one kind if they have the same role, local training, defenses and about as many
    images, in rounds between the same two powers of two: in a later round the settings of an
    earlier one may be worth 8 dB less. The first attacked client of a kind provides the weights. A
    sum of updates is like another if their clients are. Surrogates of a client that a malicious
    server attacks get the tampered weights as well.

    Args:
        federated: Data of the federation, of which the test images stand for public ones.
        attacker: The attacker.
        store: File in which choices are kept, so that a resumed run makes no other ones; ``None``
            keeps them in memory only.
        share: Runs the attacks on surrogate clients, which are independent of each other.
    """

    def __init__(
        self,
        federated: FederatedData,
        attacker: Attacker,
        store: Path | None = None,
        share: Share = in_turn,
    ) -> None:
        self._federated, self._attacker, self._store = federated, attacker, store
        self._share = share
        self._referee = Referee(federated)
        self._tunings: dict[str, Tuning] = {}
        self._powers: dict[str, float] = {}
        self._inverters: dict[str, Tuning] = {}
        if store is not None and store.is_file():
            try:
                kept = json.loads(store.read_text(encoding="utf-8"))
                self._tunings = {key: _tuning(value) for key, value in kept["tunings"].items()}
                self._powers = {key: float(value) for key, value in kept["powers"].items()}
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise BadInput(
                    f"{store} is damaged: delete it, and attacks tune themselves anew"
                ) from error

    def tuning(
        self,
        capture: Capture,
        entry: Reconstruct,
        tasks: Mapping[int, ClientTask],
        defenses: Mapping[int, tuple[AnyDefense, ...]],
        earlier: Sequence[Capture] = (),
    ) -> Tuning | None:
        """The settings for a capture; its seconds and iterations are 0 if they were known already.

        Args:
            capture: The captured update of one client, or of several.
            entry: Settings of the attack.
            tasks: Tasks of the clients behind it, by client.
            defenses: Defenses that are scheduled for them, by client.
            earlier: Earlier captures of the same images, which are attacked jointly.

        Returns:
            ``None`` for a preset that does not tune itself, for images that are read out without
            one, and where no surrogate client sends anything.

        Raises:
            ValueError: If the gradient of fished images cannot be separated.
        """
        if not attack_of(entry).tunes or capture.facts.malicious in READ_OUT:
            return None
        images = _images(capture, tasks)
        profiles = [ClientProfile(tasks[one], defenses[one], images[one]) for one in tasks]
        kind = self._kind(capture, entry, profiles, earlier)
        return None if kind is None else self._tuned(kind)

    def power(
        self,
        capture: Capture,
        entry: Reconstruct,
        tasks: Mapping[int, ClientTask],
        earlier: Sequence[Capture] = (),
    ) -> dict[int, float]:
        """Share of surrogate images without a defense that leak to the same attack, by client.

        Secure aggregation is a defense, so the surrogates of a client in a sum are alone.

        Args:
            capture: The captured update of one client, or of several.
            entry: Settings of the attack.
            tasks: Tasks of the clients behind it, by client.
            earlier: Earlier captures of the same images, which are attacked jointly.

        Returns:
            Shares in [0, 1]; NaN where it is not measured.

        Raises:
            ValueError: If the gradient of fished images cannot be separated.
        """
        if not entry.power:
            return dict.fromkeys(tasks, float("nan"))
        images = _images(capture, tasks)
        return {
            client: self._power(capture, entry, ClientProfile(task, (), images[client]), earlier)
            for client, task in tasks.items()
        }

    def _power(
        self,
        capture: Capture,
        entry: Reconstruct,
        profile: ClientProfile,
        earlier: Sequence[Capture],
    ) -> float:
        kind = self._kind(capture, entry, [profile], earlier, like=False)
        if kind is None:
            return float("nan")
        key = f"labels {entry.labels} {kind.key}"
        if key not in self._powers:
            self._powers[key] = self._measured(kind)
            self._keep()
        return self._powers[key]

    def _kind(
        self,
        capture: Capture,
        entry: Reconstruct,
        profiles: Sequence[ClientProfile],
        earlier: Sequence[Capture],
        *,
        like: bool = True,
    ) -> _Kind | None:
        """The kind of a capture, or of one of its clients without a defense if not ``like`` it.

        ``None`` if there are too many images to attack or to simulate.
        """
        target = self._attacker.target(capture, entry)
        facts, images = capture.facts, sum(each.images for each in profiles)
        if target.knowledge.num_images > most_images(entry) and facts.malicious not in READ_OUT:
            return None
        if images > len(self._federated.data.test_images):
            return None
        fished = 0 if facts.target is None else target.knowledge.num_images
        named = {
            "attack": entry.model_dump(
                exclude={"rounds", "clients", "labels", "power", "workers", "seconds"}, mode="json"
            ),
            # A network that was trained for longer needs other settings.
            "stage": capture.round.bit_length(),
            "malicious": [facts.malicious, fished],
            "clients": [_named(each) for each in profiles],
            "jointly": len(earlier),
        }
        key = json.dumps(named, sort_keys=True)
        payload = target.payload if like else None
        return _Kind(key, capture, payload, tuple(profiles), entry, fished, tuple(earlier))

    def _learned(self, kind: _Kind) -> Tuning:
        """The trained inverter for a kind of capture, which is one for these weights alone."""
        labels, images = kind.entry.labels, [each.images for each in kind.profiles]
        key = f"{kind.capture.global_digest} labels {labels} images {images} {kind.key}"
        if (known := self._inverters.get(key)) is not None:
            return replace(known, iterations=0, seconds=0.0)
        found = InverterTraining(
            federated=self._federated,
            attacker=self._attacker,
            capture=kind.capture,
            profiles=kind.profiles,
            entry=kind.entry,
            reserved=_power_numbers(kind.profiles[0].images).stop,
        ).run()
        while len(self._inverters) >= INVERTERS:
            self._inverters.pop(next(iter(self._inverters)))
        self._inverters[key] = found
        return found

    def _tuned(self, kind: _Kind) -> Tuning | None:
        if attack_of(kind.entry).method == METHOD:
            return self._learned(kind)
        if (known := self._tunings.get(kind.key)) is not None:
            return replace(known, iterations=0, seconds=0.0)
        victims = [
            self._victim(each, kind.entry) for each in self._surrogates(kind, range(VICTIMS))
        ]
        if not victims:
            return None
        found = tuned(
            self._attacker.model.to(self._attacker.device),
            victims,
            kind.payload or victims[0].payload,
            attack_of(kind.entry),
            kind.entry,
            seed=derive(self._federated.seed, "tuning"),
            share=self._share,
        )
        self._tunings[kind.key] = found
        self._keep()
        return found

    def _measured(self, kind: _Kind) -> float:
        """Attack surrogate clients other than those of the tuning, and grade the results."""
        read_out = kind.capture.facts.malicious in READ_OUT
        tunes = attack_of(kind.entry).tunes and not read_out
        tuning = self._tuned(kind) if tunes else None
        numbers = _power_numbers(kind.fished or kind.profiles[0].images)
        honest = kind.capture.facts.malicious is None
        surrogates = list(self._surrogates(kind, numbers))
        attacks = [
            AttackJob(
                attacker=self._attacker,
                capture=each.capture,
                entry=kind.entry,
                network=self._federated.network,
                seed=self._federated.seed,
                stream=("power", [each.number]),
                labels=each.truth.labels if honest and kind.entry.labels == "known" else None,
                order=each.truth.order if honest and kind.entry.order == "known" else None,
                settings=None if tuning is None else tuning.attack,
                earlier=self._known(each, kind.entry),
                check=False,
            )
            for each in surrogates
        ]
        leaking = attacked = 0
        for each, found in zip(surrogates, self._share(carried_out, attacks), strict=True):
            attacked += kind.fished or len(each.truth.inputs)
            if isinstance(found, ValueError):  # an attack that cannot work has rebuilt nothing
                continue
            if isinstance(found, NetworkFailed):
                raise found
            leak = self._referee.score(
                each.capture, each.tasks, each.truth, found, preset=kind.entry.preset
            )
            leaking += sum(row.verdict == LEAKS for row in leak.rows if row.target == "original")
        return leaking / attacked if attacked else float("nan")

    def _surrogates(self, kind: _Kind, numbers: range) -> Iterator[SurrogateCapture]:
        """Simulated captures of a kind, by their numbers."""
        return surrogate_captures(
            self._federated,
            kind.profiles,
            kind.capture,
            numbers=numbers,
            fished=kind.fished,
            earlier=kind.earlier,
        )

    @staticmethod
    def _known(surrogate: SurrogateCapture, entry: Reconstruct) -> tuple[Earlier, ...]:
        """Earlier captures of a simulated client, as far as the attacker may know them."""
        if entry.order == "known":
            return surrogate.earlier
        return tuple(Earlier(each.capture, None) for each in surrogate.earlier)

    def _victim(self, surrogate: SurrogateCapture, entry: Reconstruct) -> SurrogateVictim:
        truth, fished = surrogate.truth, surrogate.capture.facts.target
        target = self._attacker.target(
            surrogate.capture,
            entry,
            truth.labels if fished is None else None,
            truth.order if entry.order == "known" else None,
        )
        inputs = truth.inputs if fished is None else truth.inputs[_of(truth.labels, fished)]
        return SurrogateVictim(
            target.global_state,
            target.payload,
            target.knowledge,
            quality_of(inputs),
            self._attacker.earlier_updates(self._known(surrogate, entry), entry),
        )

    def _keep(self) -> None:
        """Write the choices to the store, as far as they name no object of the user's."""
        if self._store is None:
            return
        kept: dict[str, Any] = {"tunings": {}, "powers": self._powers}
        for key, value in self._tunings.items():
            try:
                kept["tunings"][key] = json.loads(json.dumps(asdict(replace(value, trials=()))))
            except TypeError:
                continue
        write_atomically(self._store, json.dumps(kept, indent=1).encode())


def _power_numbers(images: int) -> range:
    """Numbers of the surrogate clients of this many images on which power is measured."""
    return range(VICTIMS, VICTIMS + -(-POWER_IMAGES // images))


def _named(profile: ClientProfile) -> dict[str, Any]:
    """What distinguishes one client from another for an attack."""
    task = profile.task
    return {
        "training": task.training.model_dump(mode="json"),
        "mu": task.proximal_mu,
        "sampling": task.role.sampling if isinstance(task.role, Leaking) else None,
        "images": profile.images.bit_length(),
        "defenses": [
            each.model_dump(exclude={"rounds", "clients"}, mode="json") for each in profile.defenses
        ],
    }


def _images(capture: Capture, tasks: Mapping[int, ClientTask]) -> dict[int, int]:
    """Number of images of each client behind a capture, as far as the server can know it.

    Of a sum it knows the total and the batches that it asked for; the rest is split evenly.
    """
    total, count = capture.payload.num_examples, len(tasks)
    batches = {
        client: task.role.batch_size
        for client, task in tasks.items()
        if isinstance(task.role, Leaking) and count > 1
    }
    rest, others = total - sum(batches.values()), count - len(batches)
    if rest < others:  # batches of clients with fewer images
        batches, rest, others = {}, total, count
    return {client: batches.get(client, rest // max(1, others)) for client in tasks}


def _of(labels: Tensor, target: int) -> Tensor:
    """Which images have some of a class, bool ``[n]``."""
    return labels[:, target] > 0 if labels.is_floating_point() else labels == target


def _tuning(kept: dict[str, Any]) -> Tuning:
    """A choice as read from a file."""
    attack: dict[str, Any] = kept["attack"]
    attack["betas"] = tuple(attack["betas"])
    attack["priors"] = tuple((name, weight) for name, weight in attack["priors"])
    return Tuning(AttackSettings(**attack), (), kept["iterations"], kept["seconds"])

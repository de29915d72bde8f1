"""The attacker that tunes itself on surrogate clients, and measures its own power on them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attacks.knowledge import MOST_IMAGES
from attacks.payload import Payload
from attacks.reconstruction import AttackSettings
from attacks.reconstruction.candidates import candidates, fixed_fields
from attacks.reconstruction.presets import AUTO
from attacks.reconstruction.tuning import SurrogateVictim, Tuning, tune
from fedlab.client.federated_data import FederatedData
from fedlab.core.files import write_atomically
from fedlab.core.seeds import derive, generator
from fedlab.defenses import AnyDefense
from fedlab.evaluation.referee import Referee
from fedlab.evaluation.surrogates import SurrogateClient, surrogate_clients
from fedlab.metrics.images import match, psnr
from fedlab.metrics.verdict import INCONCLUSIVE, LEAKS
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import Attacker, attack_of
from fedlab.server.captures import Capture

VICTIMS = 2
"""Number of surrogate clients on which settings are chosen."""

POWER_IMAGES = 8
"""Least number of images of the surrogate clients on which power is measured, other ones."""

BUDGET = 12
"""Iterations of the tuning for each iteration of the final attack, unless the scenario says more or
less."""

ENOUGH = 40.0
"""PSNR in dB above which a better image does not count as better: nobody sees the difference."""


@dataclass(frozen=True)
class _Kind:
    """A kind of client and attack, for which one choice of settings serves.

    Attributes:
        key: Everything that distinguishes the kind, as text, but whether labels are known.
        capture: A capture of such a client.
        task: Its task.
        defenses: The defenses that the surrogate clients run.
        entry: Settings of the attack.
    """

    key: str
    capture: Capture
    task: ClientTask
    defenses: tuple[AnyDefense, ...]
    entry: Reconstruct


class SelfTuning:
    """Chooses settings on surrogate clients, once for each kind of client.

    Clients are of one kind if they have the same role, local training, defenses and about as many
    images, and the network is untrained for both or trained for both. The first attacked client of
    a kind provides the weights.

    Args:
        federated: Data of the federation, of which the test images stand for public ones.
        attacker: The attacker.
        store: File in which choices are kept, so that a resumed run makes no other ones; ``None``
            keeps them in memory only.
    """

    def __init__(
        self, federated: FederatedData, attacker: Attacker, store: Path | None = None
    ) -> None:
        self._federated, self._attacker, self._store = federated, attacker, store
        self._referee = Referee(federated)
        self._tunings: dict[str, Tuning] = {}
        self._powers: dict[str, float] = {}
        if store is not None and store.is_file():
            kept = json.loads(store.read_text())
            self._tunings = {key: _tuning(value) for key, value in kept["tunings"].items()}
            self._powers = kept["powers"]

    def tuning(
        self,
        capture: Capture,
        entry: Reconstruct,
        task: ClientTask,
        defenses: tuple[AnyDefense, ...],
    ) -> Tuning | None:
        """The settings for a capture; its seconds and iterations are 0 if they were known already.

        Args:
            capture: The captured update of one client.
            entry: Settings of the attack.
            task: Task of the client.
            defenses: Defenses that are scheduled for the client.

        Returns:
            ``None`` for a preset that does not tune itself, and where no surrogate client sends
            anything.
        """
        if not (attack_of(entry).tunes and _alike(capture)):
            return None
        return self._tuned(self._kind(capture, entry, task, defenses))

    def power(self, capture: Capture, entry: Reconstruct, task: ClientTask) -> float:
        """Share of surrogate images without a defense that leak to the same attack.

        Args:
            capture: The captured update of one client.
            entry: Settings of the attack.
            task: Task of the client.

        Returns:
            A share in [0, 1]; NaN where it is not measured.
        """
        if not entry.power or not _alike(capture):
            return float("nan")
        kind = self._kind(capture, entry, task, ())
        key = f"labels {entry.labels} {kind.key}"
        if key not in self._powers:
            self._powers[key] = self._measured(kind)
            self._keep()
        return self._powers[key]

    def _kind(
        self,
        capture: Capture,
        entry: Reconstruct,
        task: ClientTask,
        defenses: tuple[AnyDefense, ...],
    ) -> _Kind:
        named = {
            "attack": entry.model_dump(
                exclude={"rounds", "clients", "labels", "power", "workers", "seconds"}, mode="json"
            ),
            "training": task.training.model_dump(mode="json"),
            "mu": task.proximal_mu,
            "sampling": task.role.sampling if isinstance(task.role, Leaking) else None,
            "kind": capture.payload.kind,
            "images": capture.payload.num_examples.bit_length(),
            "trained": capture.round > 1,
            "defenses": [
                each.model_dump(exclude={"rounds", "clients"}, mode="json") for each in defenses
            ],
        }
        return _Kind(json.dumps(named, sort_keys=True), capture, task, defenses, entry)

    def _tuned(self, kind: _Kind) -> Tuning | None:
        if (known := self._tunings.get(kind.key)) is not None:
            return replace(known, iterations=0, seconds=0.0)
        victims = [self._victim(each, kind.entry) for each in self._clients(kind, range(VICTIMS))]
        if not victims:
            return None
        found = tuned(
            self._attacker.model.to(self._attacker.device),
            victims,
            kind.capture.payload.to(self._attacker.device),
            attack_of(kind.entry),
            kind.entry,
            seed=derive(self._federated.seed, "tuning"),
        )
        self._tunings[kind.key] = found
        self._keep()
        return found

    def _measured(self, kind: _Kind) -> float:
        """Attack surrogate clients other than those of the tuning, and grade the results."""
        tuning = self._tuned(kind) if attack_of(kind.entry).tunes else None
        images = min(kind.capture.payload.num_examples, MOST_IMAGES)
        clients = self._clients(kind, range(VICTIMS, VICTIMS + -(-POWER_IMAGES // images)))
        grades: list[str] = []
        for each in clients:
            order = each.truth.order if kind.entry.order == "known" else None
            try:
                found = self._attacker.attack(
                    each.capture,
                    kind.entry,
                    labels=each.truth.labels if kind.entry.labels == "known" else None,
                    generator=generator(self._federated.seed, "power", each.task.client),
                    order=order,
                    attack=None if tuning is None else tuning.attack,
                    check=False,
                )
            except ValueError:  # an attack that cannot work has rebuilt nothing
                grades += [INCONCLUSIVE] * len(each.truth.inputs)
                continue
            leak = self._referee.score(
                each.capture,
                {each.task.client: each.task},
                each.truth,
                found,
                preset=kind.entry.preset,
            )
            grades += [row.verdict for row in leak.rows if row.target == "original"]
        return sum(one == LEAKS for one in grades) / len(grades) if grades else float("nan")

    def _clients(self, kind: _Kind, numbers: range) -> list[SurrogateClient]:
        """Surrogate clients of a kind, by their numbers."""
        return list(
            surrogate_clients(
                self._federated,
                kind.task,
                kind.defenses,
                kind.capture.global_state,
                images=kind.capture.payload.num_examples,
                clients=numbers,
            )
        )

    def _victim(self, client: SurrogateClient, entry: Reconstruct) -> SurrogateVictim:
        known = self._attacker.knowledge(
            client.capture,
            entry,
            client.truth.labels,
            client.truth.order if entry.order == "known" else None,
        )
        return SurrogateVictim(
            {n: t.to(self._attacker.device) for n, t in client.capture.global_state.items()},
            client.capture.payload.to(self._attacker.device),
            known,
            quality_of(client.truth.inputs),
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


def tuned(
    model: nn.Module,
    victims: Sequence[SurrogateVictim],
    payload: Payload,
    attack: AttackSettings,
    entry: Reconstruct,
    *,
    seed: int,
) -> Tuning:
    """Choose the settings of an attack on surrogate victims, within the budget of its entry.

    No trial takes more iterations than the preset ``auto``, because an attack with a time budget
    may have any number of them. It spends as much time on the choice as on the attack, unless the
    entry gives another budget.

    Args:
        model: The network, on the device to compute on.
        victims: Surrogate victims, at least one.
        payload: The captured payload, in which a defense such as pruning may be visible.
        attack: Settings of the preset with those that the user replaced.
        entry: Budget of the tuning, and whether adapted settings are tried.
        seed: Seed of every trial.
    """
    short = replace(attack, iterations=min(attack.iterations, AUTO.iterations))
    fixed = fixed_fields(attack)
    first = victims[0]
    found = tune(
        model,
        victims,
        candidates(
            short,
            payload,
            first.knowledge,
            sent=first.global_state,
            fixed=fixed,
            adapt=entry.adapt,
        ),
        budget=entry.tuning_iterations or BUDGET * short.iterations,
        seconds=entry.tuning_seconds or (None if entry.tuning_iterations else entry.seconds),
        seed=seed,
        vary_tv="tv" not in fixed,
    )
    # An iteration of L-BFGS counts for many, so such a candidate keeps its smaller number.
    iterations = found.attack.iterations * attack.iterations // short.iterations
    return replace(found, attack=replace(found.attack, iterations=iterations))


def quality_of(inputs: Tensor) -> Callable[[Tensor], float]:
    """Function from reconstructed images to the mean PSNR in dB of the true ones.

    Args:
        inputs: float ``[n, channels, height, width]``, inputs of the network, pixels in [0, 1].
    """

    def measured(images: Tensor) -> float:
        guesses = images.to(inputs.device)
        places, chosen = match(inputs, guesses)
        found = psnr(inputs[places], guesses[chosen])
        return float(found.clamp(max=ENOUGH).mean())

    return measured


def _alike(capture: Capture) -> bool:
    """True if surrogate clients can be like the captured one: alone, and honestly served."""
    return (
        len(capture.clients) == 1
        and capture.facts.malicious is None
        and capture.payload.num_examples <= MOST_IMAGES
    )


def _tuning(kept: dict[str, Any]) -> Tuning:
    """A choice as read from a file."""
    attack: dict[str, Any] = kept["attack"]
    attack["betas"] = tuple(attack["betas"])
    attack["priors"] = tuple((name, weight) for name, weight in attack["priors"])
    return Tuning(AttackSettings(**attack), (), kept["iterations"], kept["seconds"])

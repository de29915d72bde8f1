"""The privacy audit of one client during a run: a lower bound on its epsilon from canaries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from attacks.privacy_audit.bounds import Audit
from attacks.privacy_audit.gaussian import GaussianAudit, bound_gaussian, estimate_gaussian
from attacks.privacy_audit.scoring import CanaryScores
from fedlab.client.canaries import canaries_of
from fedlab.client.federated_data import FederatedData, network_of
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.plugins import describe
from fedlab.core.tensor_files import read_tensors
from fedlab.privacy.ledger import Ledger
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture
from fedlab.simulation.callbacks import Callback

if TYPE_CHECKING:
    from fedlab.results.round_result import RoundResult
    from fedlab.simulation.federation import Federation


@dataclass(frozen=True)
class Verdict:
    """The result of an audit at the end of a round.

    Attributes:
        round: The last round from which the audit used an update; 0 before the first.
        updates: Number of updates of the client that the audit used.
        client: Partition id of the audited client.
        bound: Lower bound on the client's epsilon, with its confidence and delta.
        ledger: Epsilon of everything that the client sent, by its ledger; infinite once it sent
            anything without protection.
        gaussian: Lower bound on epsilon if the noise is Gaussian, which is tighter; ``None`` where
            the ledger's mechanism has other noise.
        estimate: Epsilon from the ROC curve of the scores, which is no bound; ``None`` likewise, or
            if all coins fell alike.
        ceiling_10: Largest probability with which any attack finds the true image among 10, by the
            ledger; ``None`` under the accountant ``gdp``.
        ceiling_100: The same among 100 images.
    """

    round: int
    updates: int
    client: int
    bound: Audit
    ledger: float
    gaussian: GaussianAudit | None = None
    estimate: GaussianAudit | None = None
    ceiling_10: float | None = None
    ceiling_100: float | None = None

    @property
    def tightest(self) -> Audit | GaussianAudit:
        """The bound that uses what is known of the noise."""
        return self.gaussian or self.bound

    @property
    def holds(self) -> bool:
        """True if the tightest bound does not exceed the ledger's epsilon: no proof of it."""
        return self.tightest.epsilon <= self.ledger

    def __str__(self) -> str:
        """The result as one line."""
        bound, says = self.tightest, f"{self.ledger:.3f}"
        found = (
            f"client {self.client}: epsilon is at least {bound.epsilon:.3f} at "
            f"{100 * bound.confidence:g} % confidence ({bound.correct} of {bound.guesses} guesses "
            f"on {self.bound.canaries} canaries were right), its ledger says {says}"
        )
        return found if self.holds else f"{found}: the mechanism or its accounting is broken"


class Auditor(Callback):
    """Scores the canaries of one client by the updates that the server sees, and writes the result.

    Args:
        scenario: A scenario with an ``[audit]`` table.
        federated: The data and the network of the scenario.

    Raises:
        ValueError: If the scenario has no audit.
    """

    essential = True

    def __init__(self, scenario: Scenario, federated: FederatedData) -> None:
        if scenario.audit is None:
            raise ValueError("the scenario has no audit")
        self._settings = scenario.audit
        self._delta = scenario.privacy.delta
        self._round = 0
        canaries, self._coins = canaries_of(scenario, federated.data)
        public = slice(0, self._settings.background)
        self._scores = CanaryScores(
            network_of(scenario, federated.data).to(federated.device),
            federated.network_input(canaries.images.to(federated.device)),
            canaries.labels.to(federated.device),
            clipping_norm=_clipping_norm(scenario),
            background=(
                federated.network_input(federated.data.test_images[public]),
                federated.data.test_labels[public],
            ),
        )

    def on_captures(self, federation: Federation, captures: Sequence[Capture]) -> None:
        """Score the captures of the audited client."""
        for capture in captures:
            self.observe(capture)

    def on_round(self, federation: Federation, result: RoundResult) -> None:
        """Write the scores and the result to the run folder."""
        self.save(federation.folder, federation.ledger)

    def observe(self, capture: Capture) -> None:
        """Score a capture, if the audited client is among its clients."""
        if self._settings.client not in capture.clients:
            return
        parameters = {name: capture.global_state[name] for name in capture.payload.tensors}
        buffers = {n: t for n, t in capture.global_state.items() if n not in parameters}
        self._scores.observe(capture.payload, parameters, buffers, lr=capture.facts.lr)
        self._round = capture.round

    def verdict(self, ledger: Ledger) -> Verdict:
        """The result so far.

        Args:
            ledger: The privacy accounts; the bound is held against the account of the client that
                promises the smallest epsilon.
        """
        client, coins = self._settings.client, self._coins
        # An epsilon for whole clients holds for each of their images as well.
        account = min(ledger.accounts, key=lambda each: ledger.total(client, each))
        delta, confidence = self._delta, self._settings.confidence
        scores = self._scores.scores()
        noisy = account.composition == "gaussian"
        both = noisy and bool(coins.any()) and not bool(coins.all())
        return Verdict(
            round=self._round,
            updates=self._scores.rounds,
            client=client,
            bound=self._scores.outcome(coins, delta=delta, confidence=confidence),
            ledger=ledger.total(client, account),
            gaussian=(
                bound_gaussian(scores, coins, delta=delta, confidence=confidence) if noisy else None
            ),
            estimate=(
                estimate_gaussian(scores, coins, delta=delta, confidence=confidence)
                if both
                else None
            ),
            ceiling_10=ledger.ceiling(client, 10),
            ceiling_100=ledger.ceiling(client, 100),
        )

    def save(self, run: RunFolder, ledger: Ledger) -> None:
        """Write the scores and the result to a run folder."""
        tensors = self._scores.memory() | {"round": torch.tensor(self._round)}
        write_atomically(_memory(run), save(tensors))
        verdict = self.verdict(ledger)
        facts = asdict(verdict) | {"holds": verdict.holds}
        if verdict.ledger == float("inf"):
            facts["ledger"] = None  # JSON has no infinity
        write_atomically(run.path / "audit.json", (json.dumps(facts, indent=1) + "\n").encode())

    def recall(self, run: RunFolder) -> None:
        """Continue from the scores in a run folder, if there are any.

        Raises:
            BadInput: If the scores cannot be read.
        """
        if not _memory(run).is_file():
            return
        tensors, _ = read_tensors(_memory(run))
        try:
            self._round = int(tensors.pop("round"))
            self._scores.recall(tensors)
        except (KeyError, ValueError) as error:
            raise BadInput(f"{_memory(run)} holds no scores of this audit: {error}") from error


def verdict_of(run: RunFolder) -> Verdict:
    """The result of a run's audit, from its folder.

    Raises:
        BadInput: If the scenario has no audit, or no round has ended yet.
    """
    path = run.path / "audit.json"
    if not path.is_file():
        raise BadInput(f"{run.path} holds no audit: give the scenario an [audit] table")
    try:
        return _verdict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path} is damaged: {describe(error)[:200]}") from error


def _verdict(facts: dict[str, Any]) -> Verdict:
    """The verdict in ``audit.json``; its numbers are checked by their use as numbers."""
    # Runs of earlier versions have neither the Gaussian values nor ceilings.
    gaussian, estimate = (
        GaussianAudit(**_numbers(facts[name])) if facts.get(name) else None
        for name in ("gaussian", "estimate")
    )
    ceiling_10, ceiling_100 = (
        None if (value := facts.get(name)) is None else float(value)
        for name in ("ceiling_10", "ceiling_100")
    )
    return Verdict(
        **_numbers({name: facts[name] for name in ("round", "updates", "client")}),
        bound=Audit(**_numbers(facts["bound"])),
        ledger=float("inf") if facts["ledger"] is None else float(facts["ledger"]),
        gaussian=gaussian,
        estimate=estimate,
        ceiling_10=ceiling_10,
        ceiling_100=ceiling_100,
    )


def _numbers(facts: dict[str, Any]) -> dict[str, Any]:
    for name, value in facts.items():
        if type(value) not in (int, float):
            raise TypeError(f"{name} is no number")
    return facts


def _memory(run: RunFolder) -> Path:
    return run.path / "checkpoints" / "audit.safetensors"


def _clipping_norm(scenario: Scenario) -> float | None:
    """The norm to which defenses clip each example's gradient, if it is always the same."""
    facts = (entry.facts(()) for entry in scenario.defenses)
    norms = {each["clipping_norm"] for each in facts if "clipping_norm" in each}
    return norms.pop() if len(norms) == 1 else None

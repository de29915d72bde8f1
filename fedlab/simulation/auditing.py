"""The audit of one client as the run goes: what canaries say of its epsilon, beside the ledger."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from attacks.privacy_audit.bounds import Audit
from attacks.privacy_audit.scoring import CanaryScores
from fedlab.client.canaries import canaries_of
from fedlab.client.federated_data import FederatedData, network_of
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.tensor_files import read_tensors
from fedlab.defenses.settings import DPSGD
from fedlab.privacy.ledger import Ledger
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture


@dataclass(frozen=True)
class Verdict:
    """What an audit found by the end of a round.

    Attributes:
        round: The last that it took in.
        updates: How many of the client's it took in.
        client: Partition id.
        bound: Lower bound on its epsilon, with confidence and delta.
        ledger: Epsilon of everything that it sent, by its ledger; infinite once it was open.
    """

    round: int
    updates: int
    client: int
    bound: Audit
    ledger: float

    @property
    def holds(self) -> bool:
        """Whether the ledger's epsilon may be right; nothing proves that it is."""
        return self.bound.epsilon <= self.ledger

    def __str__(self) -> str:
        """One line about it."""
        bound, says = self.bound, f"{self.ledger:.3f}"
        found = (
            f"client {self.client}: epsilon is at least {bound.epsilon:.3f} at "
            f"{100 * bound.confidence:g} % confidence ({bound.correct} of {bound.guesses} guesses "
            f"on {bound.canaries} canaries were right), its ledger says {says}"
        )
        return found if self.holds else f"{found}: the mechanism or its accounting is broken"


class Auditor:
    """Scores the canaries of one client by what the server sees of it.

    Args:
        scenario: With an audit.
        federated: Its data and network.

    Raises:
        ValueError: If the scenario has no audit.
    """

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

    def observe(self, capture: Capture) -> None:
        """Take in a Capture, if it holds anything of the audited client."""
        if self._settings.client not in capture.clients:
            return
        parameters = {name: capture.global_state[name] for name in capture.payload.tensors}
        buffers = {n: t for n, t in capture.global_state.items() if n not in parameters}
        self._scores.observe(capture.payload, parameters, buffers, lr=capture.announced.lr)
        self._round = capture.round

    def verdict(self, ledger: Ledger) -> Verdict:
        """What follows so far.

        Args:
            ledger: The accounts; of those of the client the one that promises most is held to it.
        """
        client = self._settings.client
        return Verdict(
            round=self._round,
            updates=self._scores.rounds,
            client=client,
            bound=self._scores.outcome(
                self._coins, delta=self._delta, confidence=self._settings.confidence
            ),
            # A client's own epsilon holds for each of its images as well.
            ledger=min(ledger.total(client, account) for account in ledger.accounts),
        )

    def save(self, run: RunFolder, ledger: Ledger) -> None:
        """Keep the scores and what follows from them in a run's folder."""
        tensors = self._scores.memory() | {"round": torch.tensor(self._round)}
        write_atomically(_memory(run), save(tensors))
        verdict = self.verdict(ledger)
        facts = asdict(verdict) | {"holds": verdict.holds}
        if verdict.ledger == float("inf"):
            facts["ledger"] = None  # JSON has no infinity
        write_atomically(run.path / "audit.json", (json.dumps(facts, indent=1) + "\n").encode())

    def recall(self, run: RunFolder) -> None:
        """Go on from the scores in a run's folder, if it holds any.

        Raises:
            BadInput: If they cannot be read.
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
    """What the audit of a run found, as its folder has it.

    Raises:
        BadInput: If it had none, or no round ended yet.
    """
    path = run.path / "audit.json"
    if not path.is_file():
        raise BadInput(f"{run.path} holds no audit: give the scenario an [audit] table")
    facts = json.loads(path.read_text(encoding="utf-8"))
    return Verdict(
        round=facts["round"],
        updates=facts["updates"],
        client=facts["client"],
        bound=Audit(**facts["bound"]),
        ledger=float("inf") if facts["ledger"] is None else facts["ledger"],
    )


def _memory(run: RunFolder) -> Path:
    return run.path / "checkpoints" / "audit.safetensors"


def _clipping_norm(scenario: Scenario) -> float | None:
    """Of DP-SGD, if it has the same one throughout."""
    norms = {entry.clipping_norm for entry in scenario.defenses if isinstance(entry, DPSGD)}
    return norms.pop() if len(norms) == 1 else None

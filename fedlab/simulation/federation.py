"""The running experiment: rounds, toggles, scheduled attacks, a run folder written as it goes."""

import logging
import math
import operator
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from fedlab.client.federated_data import FederatedData
from fedlab.core.devices import prepare
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.progress import progress
from fedlab.core.schedule import resolve_clients, spell
from fedlab.defenses.settings import DPSGD, Soteria
from fedlab.defenses.soteria import last_linear
from fedlab.engine import Grid
from fedlab.engine.in_process import in_process
from fedlab.evaluation.attack_evaluator import AttackEvaluator
from fedlab.evaluation.leaks import Leak, LeakSeries, save_leaks
from fedlab.evaluation.scoreboard import Scoreboard
from fedlab.models.checks import private_training_problem
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import History
from fedlab.protocol.planning import refuse_what_colluders_lack
from fedlab.results.checkpoint import Checkpoint
from fedlab.results.folder import RunFolder
from fedlab.results.round_result import RoundResult
from fedlab.results.rows import ClientRow, RoundRow
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Reconstruct
from fedlab.scenario.toggles import rounds_left, toggled
from fedlab.server.captures import Capture
from fedlab.server.rounds import Round, RoundLoop
from fedlab.server.secure_sum import refuse_what_needs_single_replies
from fedlab.simulation.analysis import Analysis
from fedlab.simulation.auditing import Auditor, Verdict
from fedlab.simulation.projection import Projection, calibrated, projections
from fedlab.simulation.root_training import root_training

log = logging.getLogger(__name__)


class Federation(Analysis):
    """A federated experiment that can be run, stepped, toggled, attacked and resumed.

    Args:
        scenario: What to run.
        out: Folder of the run; unless given, a temporary one that goes when nobody holds it.
        grid: A Flower Grid of another engine; calls the clients in this process unless given.
        on_round: Called after every round.

    Raises:
        BadInput: If the scenario cannot work here: no such data, a network that does not fit
            it or that DP-SGD cannot train, no such device.

    Example:
        >>> federation = Federation(Scenario(rounds=1, data={"train": 200, "clients": 2}))
        >>> round(federation.step().model.accuracy, 1) >= 0
        True
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        out: Path | str | None = None,
        grid: Grid | None = None,
        on_round: Callable[[RoundResult], None] | None = None,
    ) -> None:
        self._prepare(scenario, grid, on_round)
        self.folder = (
            RunFolder.temporary(self.scenario)
            if out is None
            else RunFolder.create(Path(out), self.scenario)
        )
        self.federated.cache.folder = self.folder.poisons
        self.folder.append_round(self._evaluated(0, 0.0))

    def _prepare(
        self, scenario: Scenario, grid: Grid | None, on_round: Callable[[RoundResult], None] | None
    ) -> None:
        prepare(scenario.engine.threads)
        self.federated = FederatedData.of(scenario)
        self.scenario = scenario = calibrated(scenario, self.federated.sizes)
        self._scoreboard = Scoreboard.of(scenario, self.federated)
        self._refuse_what_cannot_work(scenario)
        grid = grid or in_process(self.federated, scenario.data.clients)
        self._loop = RoundLoop(
            grid,
            self.federated.state,
            [name for name, _ in self.federated.model.named_parameters()],
            scenario,
            root_update=root_training(self.federated, scenario)
            if scenario.server.needs_root
            else None,
        )
        self._evaluator = AttackEvaluator(scenario, self.federated)
        self._auditor = Auditor(scenario, self.federated) if scenario.audit else None
        self._on_round = on_round
        self._to_tell: dict[int, History] = {}
        self._rows_may_be_ahead = False
        self.round = 0
        if scenario.privacy.accountant == "gdp":
            self._project(scenario)  # refuses what it cannot count, before it has to

    @classmethod
    def resume(
        cls,
        folder: Path | str,
        *,
        grid: Grid | None = None,
        on_round: Callable[[RoundResult], None] | None = None,
    ) -> "Federation":
        """Go on with a run after its last finished round, or from its start if none ended.

        The final weights are those of an unbroken run, bit for bit on the same device, unless
        the round that was cut off is under DP: its replies were sent, so it draws new noise.

        Raises:
            BadInput: If the folder holds no run, or one whose checkpoint is lost or damaged.
        """
        run = RunFolder.open(Path(folder))
        checkpoint = Checkpoint.load(run.checkpoint) if run.has_ended_a_round else None
        federation = cls.__new__(cls)
        federation._prepare(run.scenario, grid, on_round)
        federation.folder = run
        federation.federated.cache.folder = run.poisons
        federation._rows_may_be_ahead = True
        # What was spent in a round that never ended was sent all the same.
        federation._loop.histories = run.spending()
        federation._to_tell = run.spending()
        if federation._auditor:
            federation._auditor.recall(run)
        if checkpoint is None:
            return federation  # the seed says where it starts
        federation.round = checkpoint.round
        now = federation._loop.state
        if {n: t.shape for n, t in checkpoint.state.items()} != {
            n: t.shape for n, t in now.items()
        }:
            raise BadInput(f"the network of {folder}/scenario.toml is not the one that was trained")
        federation._loop.state = {name: checkpoint.state[name] for name in now}
        federation._loop.aggregation.recall(checkpoint.memory)
        return federation

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The global parameters and buffers, on the CPU."""
        return dict(self._loop.state)

    @property
    def ledger(self) -> Ledger:
        """Every client's privacy account so far."""
        privacy = self.scenario.privacy
        return Ledger(
            dict(self._loop.histories), privacy.accountant, privacy.delta, privacy.labels_public
        )

    @property
    def projection(self) -> dict[int, Projection]:
        """Where the schedule takes the epsilon of every client's DP-SGD rounds, by client."""
        return self._project(self.scenario)

    def run(self) -> RunFolder:
        """Run all rounds that are left, with a line about how far it is where somebody looks on.

        Raises:
            RunFailed: If a round cannot go on, or the audit contradicts the ledger.
        """
        with progress(
            self.scenario.name, self.scenario.rounds, unit="rounds", done=self.round
        ) as tell:
            while self.round < self.scenario.rounds:
                tell(self.step().model.round)
        if self._auditor and not (verdict := self._auditor.verdict(self.ledger)).holds:
            raise RunFailed(f"the audit contradicts the ledger: {verdict}")
        return self.folder

    @property
    def audit(self) -> Verdict:
        """What the audit found so far.

        Raises:
            BadInput: If the scenario has none.
        """
        if self._auditor is None:
            raise BadInput("nothing is audited: give the scenario an [audit] table")
        return self._auditor.verdict(self.ledger)

    def step(self) -> RoundResult:
        """Run the next round, attack what the schedule says, and write everything down.

        Raises:
            BadInput: If all rounds are over.
            RunFailed: If the round cannot go on; the run can be resumed from the one before.
        """
        if self.round >= self.scenario.rounds:
            raise BadInput(f"all {self.scenario.rounds} rounds of this scenario are over")
        if self._rows_may_be_ahead:
            # Not before: until a round is run again, the folder is only looked at.
            if self.round == 0:
                self.folder.begin(self.scenario)
                self.folder.append_round(self._evaluated(0, 0.0))
            else:
                self.folder.truncate(after=self.round)
            self._rows_may_be_ahead = False
        started = time.perf_counter()
        done = self._loop.step(
            self.scenario,
            self.round + 1,
            self._to_tell or None,
            on_spent=self.folder.note_spending,
        )
        self.round = done.number
        self._to_tell = {c: h for c, h in self._to_tell.items() if c not in done.histories}
        leaks = self._attack(done)
        self._keep_captures(done)
        if self._auditor:
            for capture in done.captures:
                self._auditor.observe(capture)
        result = RoundResult(
            model=self._evaluated(done.number, time.perf_counter() - started),
            clients=tuple(self._client_row(done, client) for client in sorted(done.tasks)),
            leakage=tuple(row for leak in leaks for row in leak.rows),
            ledger=tuple(self.ledger.rows(done.number)),
        )
        self._write(result, leaks)
        if self._on_round:
            self._on_round(result)
        return result

    def toggle(
        self,
        defense: str,
        *,
        on: bool,
        clients: Iterable[int] | str = "all",
        rounds: str | int = "all",
        **settings: Any,
    ) -> Scenario:
        """Switch a defense on or off, from the next round on or in some of the rounds left.

        Nothing runs yet: ``projection`` shows what the new schedule will cost, as the run folder's
        ``toggles.jsonl`` does.

        Args:
            defense: Its name, such as ``dp-sgd``.
            on: On or off.
            clients: Partition ids, or a text of the schedule's language.
            rounds: A text of the schedule's language, such as ``"4-6"`` or ``"every 2"``, of
                which those count that are not over; all that are left unless given.
            **settings: Replace settings of the defense, such as ``noise_multiplier=2.0``;
                only when it is switched on.

        Returns:
            The new scenario, which replays the whole run.

        Raises:
            BadInput: If the change cannot work; then nothing is changed.
        """
        if settings.get("target_epsilon") is not None:
            raise BadInput(
                "target_epsilon is solved before the first round; give noise_multiplier, and see "
                "in projection what it comes to"
            )
        who = self._clients(clients)
        following = self.round + 1
        changed = toggled(
            self.scenario,
            defense,
            on=on,
            clients=who,
            from_round=following,
            rounds=rounds,
            settings=settings,
        )
        self._refuse_what_cannot_work(changed)
        when = rounds_left(changed, rounds, from_round=following)
        projection = self._project(changed, who)
        for client, each in projection.items():
            log.info("client %d: epsilon of dp-sgd is %s", client, each)
        self.folder.save_toggle(
            changed,
            {
                "from_round": following,
                "rounds": spell(when),
                "defense": defense,
                "on": on,
                "clients": sorted(who),
                "settings": _as_taken(settings, changed, defense, round=min(when), client=min(who)),
                "projected_epsilon": {
                    client: each.projected if math.isfinite(each.projected) else "inf"
                    for client, each in projection.items()
                },
            },
        )
        self.scenario = changed
        return changed

    def _clients(self, chosen: Iterable[int] | str) -> frozenset[int]:
        """The partition ids that a caller names; whole numbers of NumPy's become plain ones."""
        try:
            if isinstance(chosen, str):
                return resolve_clients(chosen, self.scenario.data.clients)
            return frozenset(map(operator.index, chosen))
        except ValueError as error:
            raise BadInput(str(error)) from error
        except TypeError as error:
            raise BadInput(f"clients are whole numbers or a text, not {chosen!r}") from error

    def _refuse_what_cannot_work(self, scenario: Scenario) -> None:
        refuse_what_needs_single_replies(scenario)
        refuse_what_colluders_lack(scenario)
        for mode in dict.fromkeys(e.per_example for e in scenario.defenses if isinstance(e, DPSGD)):
            problem = private_training_problem(
                self.federated.model, self.federated.data.shape, mode
            )
            if problem:
                raise BadInput(f"dp-sgd cannot train this network: {problem}")
        if any(isinstance(entry, Soteria) for entry in scenario.defenses):
            try:
                last_linear(self.federated.model)
            except ValueError as error:
                raise BadInput(str(error)) from error

    def _project(
        self, scenario: Scenario, clients: Iterable[int] | None = None
    ) -> dict[int, Projection]:
        sizes = self.federated.sizes
        asked = sizes if clients is None else {client: sizes[client] for client in sorted(clients)}
        return projections(scenario, asked, self._loop.histories, after=self.round)

    def _attack(self, done: Round) -> list[Leak]:
        leaks = []
        for capture in done.captures:
            for settings in self._attacks_on(capture):
                try:
                    leak = self._evaluator.examine(
                        capture, settings, done.histories, scenario=self.scenario
                    )
                except ValueError as reason:
                    log.warning("round %d: %s is not attacked: %s", done.number, capture.of, reason)
                    continue
                if leak is not None:
                    leaks.append(leak)
        return leaks

    def _keep_captures(self, done: Round) -> None:
        keep = self.scenario.captures.keep
        for capture in done.captures:
            if keep == "all" or (keep == "attacked" and self._attacks_on(capture)):
                capture.save(self.folder.captures)

    def _attacks_on(self, capture: Capture) -> tuple[Reconstruct, ...]:
        """The scheduled attacks on any of the clients behind a Capture, each once."""
        each = (
            self.scenario.reconstructions_on(round=capture.round, client=client)
            for client in capture.clients
        )
        return tuple(dict.fromkeys(chain.from_iterable(each)))

    def _evaluated(self, round: int, seconds: float) -> RoundRow:
        return self._scoreboard.score(self._loop.state, round=round, seconds=seconds)

    def _client_row(self, done: Round, client: int) -> ClientRow:
        task, declined = done.tasks[client], done.declined.get(client)
        capture = next((each for each in done.captures if each.clients == (client,)), None)
        status = declined.status if declined else "ok" if client in done.accepted else "refused"
        norm = None
        if capture is not None:
            weights = capture.payload.as_weights(capture.global_state, lr=task.lr)
            change = (w - capture.global_state[name] for name, w in weights.items())
            norm = math.sqrt(sum(float(t.double().pow(2).sum()) for t in change))
        return ClientRow(
            round=done.number,
            client=client,
            role=task.role.role,
            defenses=task.defense_names,
            examples=capture.payload.num_examples if capture else None,
            steps=capture.payload.steps if capture else None,
            update_norm=norm,
            status=status,
            reason=declined.reason if declined else done.refused.get(client, ""),
            selected={True: "yes", False: "no", None: ""}[done.selected.get(client)],
        )

    def _write(self, result: RoundResult, leaks: list[Leak]) -> None:
        """The checkpoint comes last: until it is there, the round has not happened."""
        number = result.model.round
        self.folder.append_round(result.model)
        self.folder.append("clients", result.clients)
        self.folder.append("leakage", result.leakage)
        self.folder.append("ledger", result.ledger)
        if leaks:
            leaks_file = self.folder.leaks(number)
            save_leaks(leaks_file, leaks)
            title = f"What did the server see in round {number}?"
            LeakSeries(tuple(leaks), title).save(leaks_file.with_suffix(".png"))
        if self._auditor:
            self._auditor.save(self.folder, self.ledger)
        Checkpoint(number, self._loop.state, self._loop.aggregation.memory()).save(
            self.folder.checkpoint
        )

    def __repr__(self) -> str:
        return (
            f"Federation({self.scenario.name!r}, round {self.round} of {self.scenario.rounds}, "
            f"{self.scenario.data.clients} clients, {self.federated.data.name}, "
            f"folder={str(self.folder.path)!r})"
        )


def _as_taken(
    settings: Iterable[str], scenario: Scenario, defense: str, *, round: int, client: int
) -> dict[str, Any]:
    """Settings of a defense as a scenario took them: a number of NumPy's is a plain one by now."""
    entries = scenario.scheduled_defenses(round=round, client=client)
    return {
        key: getattr(entry, key) for entry in entries if entry.name == defense for key in settings
    }

"""The running experiment: rounds, toggles, scheduled attacks, and a run folder."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fedlab.client.federated_data import FederatedData, limited
from fedlab.client.own_images import terms_of
from fedlab.core.devices import prepare
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.network_errors import names_network
from fedlab.core.plugins import PluginFailed
from fedlab.core.progress import progress
from fedlab.data.images import ImageData
from fedlab.defenses import Defense
from fedlab.engine import Grid
from fedlab.evaluation.attack_evaluator import AttackEvaluator
from fedlab.evaluation.scoreboard import Scoreboard
from fedlab.privacy.release import History
from fedlab.protocol.declared_cost import PublicSizes
from fedlab.results.checkpoint import Checkpoint
from fedlab.results.folder import RunFolder
from fedlab.results.round_result import RoundResult
from fedlab.results.rows import ClientRow, RoundRow
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.toggles import rounds_left, toggled
from fedlab.server.rounds import RoundLoop
from fedlab.simulation.analysis import Analysis
from fedlab.simulation.auditing import Auditor
from fedlab.simulation.callbacks import Callback, Callbacks, OnRound
from fedlab.simulation.feasibility import refuse_what_cannot_work, refuse_what_needs_all_images
from fedlab.simulation.foreign_plugins import defined_in_main, named_plugins
from fedlab.simulation.projection import calibrated
from fedlab.simulation.recording import run_folder_callbacks
from fedlab.simulation.root_training import root_training
from fedlab.simulation.round_rows import client_row
from fedlab.simulation.run_identity import contents_of
from fedlab.simulation.scheduled_attacks import run_scheduled_attacks
from fedlab.simulation.toggle_event import named_clients, toggle_event
from fedlab.simulation.tracking import Tracking
from fedlab.simulation.trap_making import trap_making
from fedlab.simulation.workers import clients_here, shared_measure, workers_of

FAILED = f"{PluginFailed.__name__}: "
"""Mark of a failed plug-in in the reason why a client's reply is missing."""

NO_NODES = (
    'the clients of a scenario with engine.name = "deployment" are Flower SuperNodes: run or '
    "resume it by `fedlab deploy`, or rehearse it with --engine in-process"
)
"""Why a deployment cannot run in this process."""

HERE = {"name": "in-process", "address": None}
"""Settings of the engine whose processes are on this machine."""

log = logging.getLogger(__name__)


class Federation(Analysis):
    """A federated experiment that can be run, stepped, toggled, attacked and resumed.

    Everything that watches the rounds is a callback: the run folder's tables, captures, pictures
    and checkpoint, the audit, and the trackers of the scenario. They are called in this order, then
    those of the caller. The checkpoint is the last file of a round, so that a kill at any moment
    loses at most the round under way.

    Args:
        scenario: The experiment.
        out: Folder of the run, new or empty; by default a temporary folder that is deleted with
            the last reference to it.
        images: All images of the scenario's data set, if they are loaded already.
        grid: A Flower Grid of another engine; by default clients run in this process.
        callbacks: Callbacks of the caller; see ``fedlab.Callback``.
        on_round: Function that is called after every round; its exceptions stop the run.

    Raises:
        BadInput: If the scenario cannot work here: the data or the device does not exist, or the
            network fits neither the data nor a defense.

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
        images: ImageData | None = None,
        grid: Grid | None = None,
        callbacks: Sequence[Callback] = (),
        on_round: Callable[[RoundResult], None] | None = None,
    ) -> None:
        if scenario.engine.deployed and grid is None:
            raise BadInput(NO_NODES)
        self._prepare(scenario, images, grid, callbacks, on_round)
        untrained = self._evaluated(0, 0.0)  # a network that fails must leave no folder behind
        self.folder = (
            RunFolder.temporary(self.scenario)
            if out is None
            else RunFolder.create(Path(out), self.scenario)
        )
        self.federated.cache.folder = self.folder.poisons
        self._evaluator.store = self.folder.tunings
        self._evaluator.captures = self.folder.captures
        self.folder.identity.note_contents(self._contents)
        self.folder.append_round(untrained)

    def _prepare(
        self,
        scenario: Scenario,
        images: ImageData | None,
        grid: Grid | None,
        callbacks: Sequence[Callback],
        on_round: Callable[[RoundResult], None] | None,
    ) -> None:
        if named := named_plugins(scenario):
            log.info("this runs code that the scenario names: %s", ", ".join(named))
        refuse_what_needs_all_images(scenario)
        prepare(scenario.engine.threads)
        self.federated = FederatedData.of(
            scenario, None if images is None else limited(images, scenario)
        )
        self.scenario = scenario = calibrated(scenario, self.federated.sizes)
        self._scoreboard = Scoreboard.of(scenario, self.federated)
        refuse_what_cannot_work(scenario, self.federated)
        self._contents = contents_of(scenario, self.federated)
        own = scenario
        if grid is not None and scenario.engine.name == "ray":  # Flower's own, under `flwr run`
            own = scenario.changed(engine=dict(scenario.engine) | HERE)
        self._workers = workers_of(own, self.federated.device)
        clients = grid or clients_here(self.federated, own, self._workers)
        self._has_own_grid = grid is None
        self._scoreboard = replace(self._scoreboard, measure=shared_measure(clients, self._workers))
        self._loop = RoundLoop(
            clients,
            self.federated.state,
            [name for name, _ in self.federated.model.named_parameters()],
            scenario,
            root_update=root_training(self.federated, scenario),
            sizes=PublicSizes(self.federated.sizes, math.prod(self.federated.data.shape)),
            terms=terms_of(scenario, self.federated.data) if scenario.engine.deployed else None,
            make_traps=trap_making(self.federated, scenario),
        )
        self._connected = grid is not None or not scenario.engine.deployed
        self._evaluator = AttackEvaluator(scenario, self.federated, self._workers)
        self._plugin_failures: list[str] = []
        self._auditor = Auditor(scenario, self.federated) if scenario.audit else None
        watching = [*run_folder_callbacks(self._auditor), *map(Tracking, scenario.trackers)]
        users = [*callbacks, *([OnRound(on_round)] if on_round else [])]
        self._callbacks = Callbacks([*watching, *users])
        self._started = self._resumed = False
        # Histories that clients are still to be handed after a resume.
        self._owed: dict[int, History] = {}
        self.round = 0
        if scenario.privacy.accountant == "gdp":
            self._project(scenario)  # refuses what it cannot count before anything runs

    @classmethod
    def resume(
        cls,
        folder: Path | str,
        *,
        images: ImageData | None = None,
        grid: Grid | None = None,
        callbacks: Sequence[Callback] = (),
        on_round: Callable[[RoundResult], None] | None = None,
    ) -> "Federation":
        """Continue a run after its last finished round, or from the start if none was finished.

        The final weights are those of an uninterrupted run, bit for bit on the same device. The
        exception is an interrupted round under DP: its replies were sent, so it draws new noise.
        Nothing in the folder changes before the next ``step``. This runs the code of plug-ins that
        the scenario names.

        Args:
            folder: Folder of the run.
            images: All images of the scenario's data set, if they are loaded already.
            grid: Flower Grid of another engine; clients run in this process unless given.
            callbacks: Callbacks that watch the run.
            on_round: Function called with the result of every round.

        Raises:
            BadInput: If the folder holds no run, its checkpoint or journal is missing or damaged,
                or scenario, images, partition, network or code are not those of the run.
        """
        run = RunFolder.open(Path(folder))
        checkpoint = Checkpoint.load(run.checkpoint) if run.has_ended_a_round else None
        federation = cls.__new__(cls)
        federation._prepare(run.scenario_to_run(), images, grid, callbacks, on_round)
        federation.folder = run
        if run.identity.exists:
            run.identity.check_contents(federation._contents)
        else:
            log.warning(
                "%s is of an earlier version, which did not note its images: whether these are "
                "the same cannot be checked",
                run.path,
            )
        federation.federated.cache.folder = run.poisons
        federation._evaluator.store = run.tunings
        federation._evaluator.captures = run.captures
        federation._resumed = True
        # Includes the cost of a round that was interrupted, since its replies were sent.
        federation._loop.histories = run.spending()
        federation._owed = dict(federation._loop.histories)
        if federation._auditor:
            federation._auditor.recall(run)
        if checkpoint is not None:
            run.check_rows(until=checkpoint.round)
            federation._restore(checkpoint)
        return federation

    def _restore(self, checkpoint: Checkpoint) -> None:
        now = self._loop.state
        if {n: t.shape for n, t in checkpoint.state.items()} != {
            n: t.shape for n, t in now.items()
        }:
            raise BadInput(
                f"the network of {self.folder.path}/scenario.toml is not the one that was trained"
            )
        self.round = checkpoint.round
        self._loop.state = {name: checkpoint.state[name] for name in now}
        self._loop.aggregation.recall(checkpoint.memory)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The global parameters and buffers, on the CPU."""
        return dict(self._loop.state)

    def checkpoint(self) -> Checkpoint:
        """Everything that the next round depends on, except the privacy histories."""
        return Checkpoint(self.round, self._loop.state, self._loop.aggregation.memory())

    def run(self) -> RunFolder:
        """Run all rounds that are left; a terminal or notebook shows the progress.

        Raises:
            RunFailed: If a round cannot go on; after the last round if the audit contradicts the
                ledger, or a plug-in failed at a client, which its round then went on without.
        """
        with progress(
            self.scenario.name, self.scenario.rounds, unit="rounds", done=self.round
        ) as tell:
            try:
                while self.round < self.scenario.rounds:
                    tell(self.step().model.round)
            finally:
                self._workers.close()
        if self._auditor and not self.audit.holds:
            raise RunFailed(f"the audit contradicts the ledger: {self.audit}")
        if self._plugin_failures:
            more = len(self._plugin_failures) - 1
            others = f" (and {more} more such failures)" if more else ""
            raise RunFailed(f"{self._plugin_failures[0]}{others}; see clients.csv")
        return self.folder

    @names_network(lambda self: self.federated.network)
    def step(self) -> RoundResult:
        """Run the next round, run the attacks scheduled for it, and write everything to disk.

        Raises:
            BadInput: If all rounds are over.
            RunFailed: If the round cannot go on; the run can be resumed from the one before.
        """
        if self.round >= self.scenario.rounds:
            raise BadInput(f"all {self.scenario.rounds} rounds of this scenario are over")
        if not self._connected:
            raise BadInput(NO_NODES)
        if not self._started:
            self._start()
        self.folder.journal.check_unchanged()
        started, cpu_started = time.perf_counter(), self._workers.cpu_seconds
        done = self._loop.step(
            self.scenario,
            self.round + 1,
            self._owed or None,
            on_asked=self.folder.journal.ask,
            on_spent=self.folder.note_spending,
        )
        clients = tuple(client_row(done, client) for client in sorted(done.tasks))
        model = self._evaluated(done.number, 0.0)
        _refuse_overflow(model, clients)
        self.round = done.number
        self._owed = {c: h for c, h in self._owed.items() if c not in done.histories}
        leaks = run_scheduled_attacks(self.scenario, done.captures, done.histories, self._evaluator)
        self._callbacks.call("on_captures", self, done.captures)
        result = RoundResult(
            model=replace(
                model,
                seconds=time.perf_counter() - started,
                cpu_seconds=self._workers.cpu_seconds - cpu_started
                if self._has_own_grid
                else math.nan,
            ),
            clients=clients,
            leakage=tuple(row for leak in leaks for row in leak.rows),
            ledger=tuple(self.ledger.rows(done.number, clients=done.tasks)),
        )
        self._plugin_failures += [
            f"client {row.client} failed in round {row.round}: {row.reason.partition(FAILED)[2]}"
            for row in result.clients
            if FAILED in row.reason
        ]
        self._callbacks.call("on_leaks", self, leaks)
        self._callbacks.call("on_round", self, result)
        if self.round == self.scenario.rounds:
            self._callbacks.call("on_end", self)
            self.folder.release()
            self._workers.close()
        return result

    def _start(self) -> None:
        """Bring the folder of a resumed run back to its last finished round, and start to watch.

        Raises:
            BadInput: If another process writes to the folder.
            RunFailed: If another one has written to it since it was opened.
        """
        self._claim()
        if self._resumed and not self.folder.identity.has_contents:
            self.folder.note_identity(self._contents)
        if self._resumed and self.round == 0:
            self.folder.begin(self.scenario)
            self.folder.append_round(self._evaluated(0, 0.0))
        elif self._resumed:
            self.folder.truncate(after=self.round)
        self.folder.journal.settle()
        self._callbacks.call("on_start", self)
        self._started = True

    def _claim(self) -> None:
        self.folder.claim()
        self.folder.journal.check_unchanged()

    def wait_for_workers(self) -> None:
        """Start the processes of ``engine.workers`` now, and wait until they have begun to work.

        Otherwise they start beside the first rounds.
        """
        self._workers.ready()

    @names_network(lambda self: self.federated.network)
    def toggle(
        self,
        defense: str | Defense,
        *,
        on: bool,
        clients: Iterable[int] | str = "all",
        rounds: str | int = "all",
        **settings: Any,
    ) -> Scenario:
        """Switch a defense on or off, in all rounds that are left or in some of them.

        Nothing runs yet: ``projection`` and the run folder's ``toggles.jsonl`` show what the new
        schedule will cost.

        Args:
            defense: Name of the defense, such as ``dp-sgd``, or a defense with its settings.
            on: True to switch it on, False to switch it off.
            clients: Partition ids, or a text of the schedule's language.
            rounds: A text of the schedule's language, such as ``"4-6"`` or ``"every 2"``; rounds
                that are over do not count. By default all rounds that are left.
            **settings: Settings of the defense to replace, such as ``noise_multiplier=2.0``; only
                when it is switched on.

        Returns:
            The new scenario, which replays the whole run.

        Raises:
            BadInput: If the change cannot work; then nothing is changed.
        """
        if self.scenario.engine.deployed:
            raise BadInput(
                "the clients of a deployment keep to the scenario that they agreed to: start "
                "another run with another scenario"
            )
        if isinstance(defense, Defense):
            own = defense.model_dump(exclude={"name", "rounds", "clients"})
            defense, settings = defense.name, own | settings
        if settings.get("target_epsilon") is not None:
            raise BadInput(
                "target_epsilon is solved before the first round; give noise_multiplier, and see "
                "in projection what it comes to"
            )
        who = named_clients(clients, self.scenario.data.clients)
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
        refuse_what_cannot_work(changed, self.federated)
        when = rounds_left(changed, rounds, from_round=following)
        projection = self._project(changed, who)
        for client, each in projection.items():
            log.info("client %d: epsilon of %s is %s", client, each.mechanism, each)
        event = toggle_event(changed, defense, on=on, clients=who, rounds=when, settings=settings)
        costs = {client: each.as_json() for client, each in projection.items()}
        event |= {"projected_epsilon": costs}
        if defined_in_main(changed):
            self._workers.stay_alone()
        self._claim()
        self.folder.save_toggle(changed, {"from_round": following, **event})
        self.scenario = changed
        return changed

    def _evaluated(self, round: int, seconds: float) -> RoundRow:
        return self._scoreboard.score(self._loop.state, round=round, seconds=seconds)

    def __repr__(self) -> str:
        return (
            f"Federation({self.scenario.name!r}, round {self.round} of {self.scenario.rounds}, "
            f"{self.scenario.data.clients} clients, {self.federated.data.name}, "
            f"folder={str(self.folder.path)!r})"
        )


def _refuse_overflow(model: RoundRow, clients: Sequence[ClientRow]) -> None:
    """Refuse a global model on which nobody can train, before the checkpoint takes it.

    Raises:
        RunFailed: If the loss on the test images is not finite.
    """
    if math.isfinite(model.loss):
        return
    norms = {row.client: row.update_norm for row in clients if row.update_norm is not None}
    most = max(norms, key=lambda client: norms[client], default=None)
    blame = "" if most is None else f"; client {most} changed it most, by a norm of {norms[most]:g}"
    raise RunFailed(
        f"round {model.round}: the outputs of the new global model overflow, and no client could "
        f"train it{blame}: choose a robust server.strategy or a lower training.lr"
    )

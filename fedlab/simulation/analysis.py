"""Attacks, tests and accounts of a running or finished federation, which change nothing in it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from attacks.privacy_audit.membership import MembershipResult
from attacks.reconstruction import Consistency
from attacks.reconstruction.watch import Watch
from fedlab.core.errors import BadInput
from fedlab.core.schedule import resolve_rounds
from fedlab.core.seeds import generator
from fedlab.core.views import Viewable, show
from fedlab.evaluation.attack_evaluator import AttackEvaluator
from fedlab.evaluation.leaks import Leak
from fedlab.evaluation.membership import MembershipTest
from fedlab.evaluation.unmixing import UnmixedShard, unmix_reconstructions
from fedlab.privacy.ledger import Ledger
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture
from fedlab.simulation.auditing import Auditor, Verdict
from fedlab.simulation.model_probes import ModelProbes
from fedlab.simulation.projection import Projection, projections
from fedlab.simulation.unused_settings import refuse_unused_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Analysis(ModelProbes, Viewable):
    """The questions that a federation answers at any time, without any change to the experiment.

    Attributes:
        scenario: The scenario with all toggles so far.
        federated: The data of all clients.
        folder: The run folder.
        round: The last round that has ended; 0 before the first.
    """

    folder: RunFolder
    _evaluator: AttackEvaluator
    _auditor: Auditor | None

    @property
    def ledger(self) -> Ledger:
        """The privacy account of every client so far."""
        privacy = self.scenario.privacy
        return Ledger(
            self._loop.accounted, privacy.accountant, privacy.delta, privacy.labels_public
        )

    @property
    def projection(self) -> dict[int, Projection]:
        """The epsilon to which the schedule takes each client, by partition id."""
        return self._project(self.scenario)

    def _project(
        self, scenario: Scenario, clients: Iterable[int] | None = None
    ) -> dict[int, Projection]:
        sizes = self.federated.sizes
        asked = sizes if clients is None else {client: sizes[client] for client in sorted(clients)}
        return projections(scenario, asked, self._loop.accounted, after=self.round)

    @property
    def audit(self) -> Verdict:
        """The result of the audit so far.

        Raises:
            BadInput: If the scenario has no audit.
        """
        if self._auditor is None:
            raise BadInput("nothing is audited: give the scenario an [audit] table")
        return self._auditor.verdict(self.ledger)

    def reconstruct(
        self,
        *,
        round: int,
        client: int,
        watch: Watch | None = None,
        **settings: Any,
    ) -> Leak:
        """Run a reconstruction attack on a kept capture and score it against the true images.

        Args:
            round: Round number, counted from 1.
            client: Partition id.
            watch: Function that is called now and then with the progress of the attack.
            **settings: Settings of a ``[[reconstructions]]`` entry, such as ``preset="fast"``,
                ``labels="inferred"``, ``iterations=300`` or ``seconds=20``.

        Raises:
            BadInput: If no capture was kept, a setting is wrong or would change nothing, or the
                capture cannot be attacked.
        """
        return self._reconstructed(round, client, watch, settings)

    def _reconstructed(
        self,
        round: int,
        client: int,
        watch: Watch | None,
        settings: Mapping[str, Any],
        *,
        strict: bool = True,
    ) -> Leak:
        """Attack a kept capture; ``strict`` refuses settings that change nothing in it."""
        if not 1 <= round <= self.round:
            raise BadInput(f"round {round} has not been run: {self.round} rounds are over")
        capture = Capture.load(self.folder.captures, round=round, client=client)
        given = {name: value for name, value in settings.items() if value is not None}
        (entry,) = self.scenario.changed(reconstructions=[given]).reconstructions
        histories, scenario = self._loop.histories, self.scenario
        try:
            if strict:
                earlier = self._evaluator.earlier(capture, entry, histories, scenario=scenario)
                refuse_unused_settings(capture, entry, given, earlier)
            leak = self._evaluator.evaluate(
                capture, entry, histories, scenario=scenario, watch=watch
            )
        except ValueError as error:
            raise BadInput(str(error)) from error
        if leak is None:
            raise BadInput(f"client {client} drew an empty Poisson batch in round {round}")
        return leak

    def consistency(self, *, round: int, client: int) -> Consistency:
        """Compare a kept capture with the attacker's own simulation of the client on true images.

        A cosine near 1 says that the attacker simulates what really happened; a defense's noise,
        another mode of BatchNorm or a wrong learning rate lower it.

        Args:
            round: Round number, counted from 1.
            client: Partition id.

        Raises:
            BadInput: If no capture was kept, or the client cannot be simulated.
        """
        capture = Capture.load(self.folder.captures, round=round, client=client)
        try:
            return self._evaluator.consistency(
                capture, self._loop.histories, scenario=self.scenario
            )
        except ValueError as error:
            raise BadInput(str(error)) from error

    def membership(
        self,
        *,
        round: int,
        client: int,
        test: MembershipTest = "alignment",
        non_members: int = 1_000,
        shadows: int = 8,
    ) -> MembershipResult:
        """Run a membership inference attack: tell the client's images from test images.

        Args:
            round: Round number, counted from 1.
            client: Partition id.
            test: Membership test: ``loss``, ``loss-drop``, ``alignment`` or ``lira``.
            non_members: Largest number of test images. A false positive rate of 1 % takes 1,000
                of them, one of 0.1 % takes 10,000.
            shadows: Number of shadow clients of ``lira``, even.

        Raises:
            BadInput: If no capture was kept, or the client's batch was empty.
        """
        capture = Capture.load(self.folder.captures, round=round, client=client)
        try:
            return self._evaluator.membership(
                capture,
                self._loop.histories,
                test=test,
                non_members=non_members,
                shadows=shadows,
                scenario=self.scenario,
            )
        except ValueError as error:
            raise BadInput(str(error)) from error

    def unmix(
        self, *, client: int, rounds: str = "all", watch: Watch | None = None, **settings: Any
    ) -> UnmixedShard:
        """Rebuild a client's mixed images of many rounds, and solve for the images behind them.

        Args:
            client: Partition id.
            rounds: Rounds in the schedule's language. Only rounds count whose capture was kept and
                in which the client ran a defense that mixes a known number of images.
            watch: Function that is called now and then with the progress of an attack.
            **settings: Settings of the attack; see ``reconstruct``.

        Raises:
            BadInput: If no such round was kept, or the number of mixed images leaves nothing to
                solve for.
        """
        try:
            chosen = resolve_rounds(rounds, self.scenario.rounds)
        except ValueError as error:
            raise BadInput(str(error)) from error
        mixing = {
            number: entry.mixture_size
            for number in sorted(chosen)
            for entry in self.scenario.defenses_on(round=number, client=client)
            if entry.mixture_size is not None
            and self.scenario.malicious_attack(round=number, client=client) is None
            and Capture.kept(self.folder.captures, number, client)
        }
        if len(set(mixing.values())) != 1:
            raise BadInput(
                f"client {client} has no kept replies under dp-instahide with one k in rounds "
                f"{rounds}: schedule reconstructions there or set captures.keep=all"
            )
        found = []
        for number in mixing:
            # A setting may have an effect in some of the rounds alone.
            leak = self._reconstructed(number, client, watch, settings, strict=False)
            if leak.reconstruction is not None:
                found.append((number, leak.reconstruction))
        return unmix_reconstructions(
            found,
            client=client,
            shard=self.federated.shard(client),
            data=self.federated.data,
            k=next(iter(mixing.values())),
            generator=generator(self.scenario.seed, "unmix", client),
            seed=self.scenario.seed,
        )

    def table(self) -> Table:
        """Table of the rounds: accuracy, attack success and chance, epsilon, and reconstructions.

        Returns:
            A table for a terminal, with one row for each round so far.
        """
        table: Table = show(self.folder, "table", ledger=self.ledger)
        return table

    def plot(self) -> "Figure":
        """Draw the timeline of the run; the same as ``timeline``."""
        return self.timeline()

    def picture(self) -> "Figure":
        """Draw the true and the rebuilt images of every attacked round.

        Raises:
            BadInput: If the server has not attacked any client yet.
        """
        if not self.folder.leak_files:
            raise BadInput("the server has attacked nobody yet, so there is nothing to show")
        return self.folder.picture()

    def controls(self) -> Any:
        """Sliders and buttons in a notebook that switch defenses and run rounds.

        Returns:
            An ``ipywidgets.VBox``, which shows itself.

        Raises:
            BadInput: If ipywidgets is not installed.
        """
        return show(self, "controls")

    def timeline(self) -> "Figure":
        """Draw defenses, accuracy, reconstruction quality and epsilon against the round.

        Raises:
            BadInput: If no round has ended yet.
        """
        if not self.round:
            raise BadInput("no round has ended yet, so there is no timeline: call step() first")
        return self.folder.plot()

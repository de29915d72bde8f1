"""What can be asked of a federation at any time, without changing what it does."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from rich.table import Table

from attacks.privacy_audit.membership import MembershipResult
from attacks.reconstruction import Consistency
from attacks.reconstruction.invert import Watch
from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.core.schedule import resolve_rounds
from fedlab.core.seeds import generator
from fedlab.core.views import Viewable, show
from fedlab.defenses.settings import DPInstaHide
from fedlab.evaluation.attack_evaluator import AttackEvaluator
from fedlab.evaluation.leaks import Leak
from fedlab.evaluation.membership import MembershipTest
from fedlab.evaluation.robustness import Robustness, robustness
from fedlab.evaluation.unmixing import UnmixedShard, unmix_reconstructions
from fedlab.privacy.ledger import Ledger
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture
from fedlab.server.rounds import RoundLoop

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Analysis(ABC, Viewable):
    """Attacks on what was kept, tests of the model, and what a run looks like so far.

    Attributes:
        scenario: As it stands, toggles included.
        federated: The data of all clients.
        folder: Of the run.
        round: The last that has ended.
    """

    scenario: Scenario
    federated: FederatedData
    folder: RunFolder
    round: int
    _evaluator: AttackEvaluator
    _loop: RoundLoop

    @property
    @abstractmethod
    def ledger(self) -> Ledger:
        """Every client's privacy account so far."""

    def reconstruct(
        self,
        *,
        round: int,
        client: int,
        watch: Watch | None = None,
        **settings: Any,
    ) -> Leak:
        """Attack a kept Capture, whether or not it was attacked before.

        Args:
            round: Counted from 1.
            client: Partition id.
            watch: Called now and then with the progress of the attack.
            **settings: Those of a ``[[reconstructions]]`` entry, such as ``preset="fast"``,
                ``labels="inferred"``, ``iterations=300`` or ``seconds=20``.

        Raises:
            BadInput: If none was kept, a setting is wrong, or it cannot be attacked.
        """
        if not 1 <= round <= self.round:
            raise BadInput(f"round {round} has not been run: {self.round} rounds are over")
        capture = Capture.load(self.folder.captures, round=round, client=client)
        given = {name: value for name, value in settings.items() if value is not None}
        (entry,) = self.scenario.changed(reconstructions=[given]).reconstructions
        try:
            leak = self._evaluator.examine(
                capture,
                entry,
                self._loop.histories,
                scenario=self.scenario,
                watch=watch,
            )
        except ValueError as error:
            raise BadInput(str(error)) from error
        if leak is None:
            raise BadInput(f"client {client} drew an empty Poisson batch in round {round}")
        return leak

    def consistency(self, *, round: int, client: int) -> Consistency:
        """Whether the attacker's simulation of a client gives a kept Capture from the true images.

        A cosine near 1 says that the attack is aimed at what really happened; a defense's noise,
        another mode of BatchNorm or a wrong learning rate show here.

        Raises:
            BadInput: If none was kept, or it cannot be simulated.
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
        """How well the images behind a kept Capture are told from test images.

        Args:
            round: Counted from 1.
            client: Partition id.
            test: ``loss``, ``loss-drop``, ``alignment`` or ``lira``.
            non_members: Test images, at most; a rate of 1 % takes 1,000, one of 0.1 % 10,000.
            shadows: Shadow clients of ``lira``, an even number.

        Raises:
            BadInput: If none was kept, or it was of an empty batch.
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

    def robustness(
        self, *, epsilon: float = 8 / 255, iterations: int = 20, images: int = 500
    ) -> Robustness:
        """How much accuracy the global model keeps when test images are attacked.

        Args:
            epsilon: Largest change of a pixel, on pixels in [0, 1].
            iterations: Of PGD and of WITCHcraft.
            images: Test images, at most, the first by place.

        Raises:
            BadInput: If a number is out of range.
        """
        if not 0 < epsilon <= 1 or iterations < 1 or images < 1:
            raise BadInput(
                f"epsilon is in (0, 1] and there is at least one iteration and image, not {epsilon}"
                f", {iterations} and {images}"
            )
        self.federated.load(self._loop.state)
        return robustness(
            self.federated.model,
            self.federated.data.test_images[:images],
            self.federated.data.test_labels[:images],
            self.federated.data.normalise,
            epsilon=epsilon,
            iterations=iterations,
            generator=generator(self.scenario.seed, "evasion", self.round),
        )

    def unmix(
        self, *, client: int, rounds: str = "all", watch: Watch | None = None, **settings: Any
    ) -> UnmixedShard:
        """Rebuild a client's mixtures of many rounds and un-mix them: DP-InstaHide's second test.

        Args:
            client: Partition id.
            rounds: A text of the schedule's language; those count whose reply was kept and in
                which DP-InstaHide alone was on.
            watch: Called now and then with the progress of an attack.
            **settings: See ``reconstruct``.

        Raises:
            BadInput: If no such round was kept, or k and the client's images leave nothing to find.
        """
        try:
            chosen = resolve_rounds(rounds, self.scenario.rounds)
        except ValueError as error:
            raise BadInput(str(error)) from error
        mixing = {
            number: entry.k
            for number in sorted(chosen)
            for entry in self.scenario.defenses_on(round=number, client=client)
            if isinstance(entry, DPInstaHide)
            and self.scenario.malice(round=number, client=client) is None
            and Capture.kept(self.folder.captures, number, client)
        }
        if len(set(mixing.values())) != 1:
            raise BadInput(
                f"client {client} has no kept replies under dp-instahide with one k in rounds "
                f"{rounds}: schedule reconstructions there or set captures.keep=all"
            )
        found = []
        for number in mixing:
            leak = self.reconstruct(round=number, client=client, watch=watch, **settings)
            if leak.reconstruction is not None:
                found.append((number, leak.reconstruction))
        return unmix_reconstructions(
            found,
            client=client,
            shard=self.federated.shard(client),
            data=self.federated.data,
            k=next(iter(mixing.values())),
            generator=generator(self.scenario.seed, "unmix", client),
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

    def timeline(self) -> "Figure":
        """Draw defenses, accuracy, reconstruction quality and epsilon against the round.

        Raises:
            BadInput: If no round has ended yet.
        """
        if not self.round:
            raise BadInput("no round has ended yet, so there is no timeline: call step() first")
        return self.folder.plot()

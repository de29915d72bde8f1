"""Lets the server's attacker loose on a Capture and the Referee judge what it found."""

from collections.abc import Mapping
from functools import cached_property

from attacks.privacy_audit.membership import MembershipResult
from attacks.reconstruction import Consistency
from attacks.reconstruction.watch import Watch
from fedlab.client.federated_data import FederatedData, network_of
from fedlab.core.seeds import generator
from fedlab.evaluation.leaks import Leak
from fedlab.evaluation.membership import MembershipTest, membership
from fedlab.evaluation.referee import Referee
from fedlab.evaluation.replay import Truth, rehearsed
from fedlab.privacy.release import History
from fedlab.protocol.planning import task_for
from fedlab.protocol.task import ClientTask
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import Attacker
from fedlab.server.captures import Capture


class AttackEvaluator:
    """Attacks and scores Captures of one scenario's federation.

    Args:
        scenario: Names data and network.
        federated: The clients' images.
    """

    def __init__(self, scenario: Scenario, federated: FederatedData) -> None:
        self._scenario = scenario
        self._site = federated
        self._referee = Referee(federated)

    @cached_property
    def attacker(self) -> Attacker:
        """The attacker, with a network of its own."""
        data = self._site.data
        return Attacker(
            model=network_of(self._scenario, data),
            shape=data.shape,
            num_classes=data.num_classes,
            mean=data.mean,
            std=data.std,
            device=self._site.device,
        )

    def examine(
        self,
        capture: Capture,
        settings: Reconstruct,
        histories: Mapping[int, History],
        *,
        scenario: Scenario | None = None,
        watch: Watch | None = None,
    ) -> Leak | None:
        """Attack a Capture and score the result.

        Args:
            capture: What the server saw.
            settings: How to attack.
            histories: Accountant histories by client; what comes before the round keys the noise.
            scenario: The scenario as it stood in that round, if it was toggled since.
            watch: Called now and then with the progress of the attack.

        Returns:
            ``None`` if the client's Poisson batch was empty: there is nothing to rebuild. Of a sum
            over several clients the rows say whose image each is.

        Raises:
            ValueError: If the payload cannot be attacked, or holds no image of the class that a
                malicious server fished for.
        """
        tasks = self._plans(capture, scenario)
        truth = rehearsed(self._site, capture, tasks, _before(histories, capture.round))
        if not len(truth.inputs):
            return None
        _refuse_an_empty_net(capture, truth)
        started = generator(self._scenario.seed, "attack", capture.round, *capture.clients)
        # A malicious server is granted nothing.
        granted = capture.announced.malicious is None
        order = truth.order if granted and settings.order == "known" else None
        reconstruction = self.attacker.attack(
            capture,
            settings,
            labels=truth.labels if granted and settings.labels == "known" else None,
            order=order,
            generator=started,
            watch=watch,
        )
        score = self._referee.score(
            capture,
            tasks,
            truth,
            reconstruction,
            preset="imprint" if capture.announced.malicious == "imprint" else settings.preset,
            order_known=order is not None and len(order) > 1,
        )
        return Leak(
            rows=score.rows,
            originals=score.originals.cpu(),
            mixed=None if score.mixed is None else score.mixed.cpu(),
            rebuilt=score.rebuilt.cpu(),
            reconstruction=reconstruction,
        )

    def consistency(
        self,
        capture: Capture,
        histories: Mapping[int, History],
        *,
        scenario: Scenario | None = None,
    ) -> Consistency:
        """Whether the attacker's simulation of a client gives its Capture from the true images.

        Args:
            capture: What the server saw.
            histories: Accountant histories by client.
            scenario: The scenario as it stood in that round, if it was toggled since.

        Raises:
            ValueError: If the true batch was empty, or the payload cannot be simulated.
        """
        tasks = self._plans(capture, scenario)
        truth = rehearsed(self._site, capture, tasks, _before(histories, capture.round))
        return self.attacker.consistency(
            capture, self._site.data.normalise(truth.inputs), truth.labels, truth.order
        )

    def membership(
        self,
        capture: Capture,
        histories: Mapping[int, History],
        *,
        test: MembershipTest,
        non_members: int,
        shadows: int,
        scenario: Scenario | None = None,
    ) -> MembershipResult:
        """How well the images behind a Capture are told from test images; see ``membership``.

        Raises:
            ValueError: If nobody's images are behind it, or there is an odd number of shadows.
        """
        tasks = self._plans(capture, scenario)
        truth = rehearsed(self._site, capture, tasks, _before(histories, capture.round))
        return membership(
            capture,
            truth,
            self._site,
            self.attacker.model,
            test=test,
            non_members=non_members,
            shadows=shadows,
            generator=generator(self._scenario.seed, "membership", capture.round, *capture.clients),
        )

    def _plans(self, capture: Capture, scenario: Scenario | None) -> dict[int, ClientTask]:
        return {
            client: task_for(
                scenario or self._scenario,
                round=capture.round,
                client=client,
                proximal_mu=capture.announced.proximal_mu,
            )
            for client in capture.clients
        }


def _refuse_an_empty_net(capture: Capture, truth: Truth) -> None:
    """Fishing sees images of its class only; of others there is nothing to rebuild."""
    target, labels = capture.announced.target, truth.labels
    if target is None:
        return
    if not (labels[:, target] > 0 if labels.is_floating_point() else labels == target).any():
        raise ValueError(f"the server fished for class {target}, of which its batch has no image")


def _before(histories: Mapping[int, History], round: int) -> dict[int, History]:
    """Histories before the replies of a round that counted, which key the noise of those replies.

    A round that failed and was tried again stands in them more than once; the last one counted.
    """
    before = {}
    for client, history in histories.items():
        counted = [entry.participation for entry in history if entry.round == round]
        before[client] = (
            tuple(entry for entry in history if entry.participation < counted[-1])
            if counted
            else history
        )
    return before

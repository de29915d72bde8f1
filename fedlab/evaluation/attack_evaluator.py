"""Run reconstruction attacks on captures and score them against the ground truth."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from attacks.knowledge import PublicImages
from attacks.privacy_audit.membership import MembershipResult
from attacks.reconstruction import Consistency, Reconstruction
from attacks.reconstruction.tuning import Tuning
from attacks.reconstruction.watch import Watch
from fedlab.client.federated_data import FederatedData, network_of
from fedlab.core.errors import BadInput
from fedlab.core.network_errors import NetworkFailed, names_network, naming_network
from fedlab.core.seeds import generator
from fedlab.core.workers import Workers
from fedlab.defenses import Defense
from fedlab.evaluation.attack_job import AttackJob, carried_out
from fedlab.evaluation.attack_progress import attack_progress
from fedlab.evaluation.earlier_rounds import earlier_captures
from fedlab.evaluation.leaks import Leak
from fedlab.evaluation.membership import MembershipTest, membership
from fedlab.evaluation.referee import Referee
from fedlab.evaluation.replay import Truth, replay
from fedlab.evaluation.self_tuning import SelfTuning
from fedlab.evaluation.skipped import skipped_leak
from fedlab.evaluation.unscored import unscored_leak
from fedlab.metrics.metric import COLUMNS, METRICS
from fedlab.metrics.verdict import CONSISTENT, INCONCLUSIVE, NOT_SHOWN, POWERFUL
from fedlab.privacy.release import History
from fedlab.protocol.planning import task_for
from fedlab.protocol.task import ClientTask
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import Attacker, Earlier, attack_of
from fedlab.server.captures import READ_OUT, TRAPPED, Capture
from fedlab.server.suppression import singled_out, with_noise_of_all

CACHED = 4
"""Number of captures whose replay is kept, each with all images of its clients. A few suffice,
because the attacks on a capture follow each other."""

AHEAD = 4
"""Number of attacks for each process that are planned together; their true images are in memory."""

PUBLIC = 512
"""Largest number of test images that the attacker has; test images stand for public ones."""

T = TypeVar("T")

log = logging.getLogger(__name__)

_NAMES = names_network(lambda self: self._federated.network)


class AttackEvaluator:
    """Attacks captures of one scenario's federation and scores the results.

    Args:
        scenario: Scenario of the federation.
        federated: Images of all clients.
        workers: Processes that carry out the attacks; by default this one alone.

    Attributes:
        store: File that keeps what attacks choose on surrogate clients; ``None`` for none. It is
            read before the first attack.
        captures: Folder of earlier captures, for attacks on several rounds; ``None`` for none.

    Raises:
        BadInput: If a plug-in that the scenario names for attacks or metrics cannot be used.
    """

    def __init__(
        self, scenario: Scenario, federated: FederatedData, workers: Workers | None = None
    ) -> None:
        self._scenario = scenario
        self._workers = workers or Workers(1)
        self._federated = federated
        self.store: Path | None = None
        self.captures: Path | None = None
        metrics = [METRICS.get(name) for name in scenario.metrics]
        further = [metric for metric in metrics if metric.column not in COLUMNS]
        self._referee = Referee(federated, further, scenario.privacy)
        self._truths: dict[tuple[object, ...], Truth] = {}
        for entry in scenario.reconstructions:
            try:
                attack_of(entry)
            except ValueError as error:
                raise BadInput(f"reconstructions: {error}") from error

    @cached_property
    def attacker(self) -> Attacker:
        """The attacker, with its own network."""
        data = self._federated.data
        return Attacker(
            model=network_of(self._scenario, data),
            shape=data.shape,
            num_classes=data.num_classes,
            mean=data.mean,
            std=data.std,
            device=self._federated.device,
            public=PublicImages(
                data.pixels(data.test_images[:PUBLIC]).cpu(), data.test_labels[:PUBLIC].cpu()
            ),
        )

    @cached_property
    def _self_tuning(self) -> SelfTuning:
        return SelfTuning(self._federated, self.attacker, self.store, self._workers.map)

    def evaluate(
        self,
        capture: Capture,
        settings: Reconstruct,
        histories: Mapping[int, History],
        *,
        scenario: Scenario | None = None,
        watch: Watch | None = None,
    ) -> Leak | None:
        """Run a reconstruction attack on a capture and score it against the ground truth.

        Args:
            capture: The captured update.
            settings: Settings of the attack.
            histories: Privacy histories by client; entries before the round key the noise.
            scenario: Scenario as it was in the round, if it was toggled since; by default the
                evaluator's own.
            watch: Callback that receives the progress of the attack.

        Returns:
            The leak, whose rows name the client of each image. ``None`` if the client's Poisson
            batch was empty, so that there is nothing to reconstruct. In a deployment, where the
            true images are with the clients, its rows are unscored.

        Raises:
            ValueError: If the payload cannot be attacked, or contains no image of the class that a
                malicious server fished for.
            NetworkFailed: If the network fails under attack, such as for want of a second
                derivative.
            PluginFailed: If a plug-in of the attack or a metric fails.
        """
        planned = self._plan(capture, settings, histories, scenario)
        if planned is None:
            return None
        with attack_progress(planned.job.settings or attack_of(settings), watch) as watching:
            found = planned.job.run(watching)
        return self._scored(planned, found, histories)

    def evaluate_all(
        self,
        pairs: Sequence[tuple[Capture, Reconstruct]],
        histories: Mapping[int, History],
        *,
        scenario: Scenario | None = None,
    ) -> Iterator[Leak | Exception | None]:
        """Run several attacks, as many at a time as there are processes, and score them.

        Args:
            pairs: Captures with the settings of the attack on each.
            histories: Privacy histories by client.
            scenario: Scenario as it was in the round, if it was toggled since.

        Yields:
            For each the leak, ``None`` for an empty batch, or the ValueError or NetworkFailed that
            says why it was not attacked.

        Raises:
            PluginFailed: If a plug-in of the attack or a metric fails.
        """
        step = AHEAD * self._workers.count if self._workers.count > 1 else 1
        for some in (pairs[first : first + step] for first in range(0, len(pairs), step)):
            planned = [
                _tried(partial(self._plan, capture, entry, histories, scenario))
                for capture, entry in some
            ]
            jobs = [each.job for each in planned if isinstance(each, _Planned)]
            results = iter(self._workers.map(carried_out, jobs))
            for each in planned:
                if not isinstance(each, _Planned):
                    yield each
                    continue
                found = next(results)
                yield (
                    found
                    if isinstance(found, Exception)
                    else _tried(partial(self._scored, each, found, histories))
                )

    @_NAMES
    def _plan(
        self,
        capture: Capture,
        settings: Reconstruct,
        histories: Mapping[int, History],
        scenario: Scenario | None,
    ) -> "_Planned | None":
        """Find the true images, and choose the settings of the attack; ``None`` without images."""
        deployed = self._scenario.engine.deployed
        truth = None if deployed else self._truth(capture, scenario, histories)
        capture = singled_out(capture)
        tasks = self._tasks(capture, scenario)
        if deployed and len(tasks) > 1:
            raise ValueError("nobody can tell whose images are behind a sum of several clients")
        if truth is not None and not len(truth.inputs):
            return None
        if truth is not None:
            _check_fished_class(capture, truth)
        planned = scenario or self._scenario
        defenses = {
            client: with_noise_of_all(
                planned.scheduled_defenses(round=capture.round, client=client), capture.facts
            )
            for client in tasks
        }
        earlier = self._earlier(capture, settings, truth, histories, scenario)
        before = [each.capture for each in earlier]
        self.attacker.check_memory(capture, settings, earlier)
        tuning = self._self_tuning.tuning(capture, settings, tasks, defenses, before)
        powers = self._self_tuning.power(capture, settings, tasks, before)
        if _beyond_read_out(capture, settings, sum(defenses.values(), ())):
            powers = dict.fromkeys(powers, 0.0)
        # A malicious server knows no labels and no order in advance.
        honest = truth is not None and capture.facts.malicious is None
        job = AttackJob(
            attacker=self.attacker,
            capture=capture,
            entry=settings,
            network=self._federated.network,
            seed=self._scenario.seed,
            stream=("attack", [capture.round, *capture.clients]),
            labels=truth.labels if truth and honest and settings.labels == "known" else None,
            order=truth.order if truth and honest and settings.order == "known" else None,
            settings=None if tuning is None else tuning.attack,
            earlier=earlier,
        )
        return _Planned(tasks, truth, tuning, powers, job)

    @_NAMES
    def earlier(
        self,
        capture: Capture,
        settings: Reconstruct,
        histories: Mapping[int, History],
        *,
        scenario: Scenario | None = None,
    ) -> tuple[Capture, ...]:
        """Earlier captures of the same images that an attack takes jointly with one, in order.

        Args:
            capture: The captured update.
            settings: Settings of the attack, which may ask for more rounds than there are.
            histories: Privacy histories by client.
            scenario: Scenario as it was in the round, if it was toggled since.

        Raises:
            ValueError: If the true images behind a capture cannot be told.
        """
        if settings.rounds_jointly == 1:
            return ()
        deployed = self._scenario.engine.deployed
        truth = None if deployed else self._truth(capture, scenario, histories)
        found = self._earlier(singled_out(capture), settings, truth, histories, scenario)
        return tuple(each.capture for each in found)

    def _earlier(
        self,
        capture: Capture,
        settings: Reconstruct,
        truth: Truth | None,
        histories: Mapping[int, History],
        scenario: Scenario | None,
    ) -> tuple[Earlier, ...]:
        """Earlier captures of the same images, as many as are attacked jointly with this one."""
        found = []
        for each in earlier_captures(
            self.captures, capture, scenario or self._scenario, rounds=settings.rounds_jointly
        ):
            batch, order = "gradient" in (each.payload.kind, capture.payload.kind), None
            if truth is None and batch:
                continue
            if truth is not None and (batch or settings.order == "known"):
                own = self._truth(each, scenario, histories)
                if batch and not own.same_images(truth):
                    continue
                order = own.order_in(truth) if settings.order == "known" else None
            found.append(Earlier(each, order))
        return tuple(found)

    @_NAMES
    def _scored(
        self, planned: "_Planned", found: Reconstruction, histories: Mapping[int, History]
    ) -> Leak:
        """Score what an attack rebuilt."""
        capture, order = planned.job.capture, planned.job.order
        preset = _attack_name(capture, planned.job.entry)
        if planned.truth is None:
            (task,) = planned.tasks.values()
            leak = unscored_leak(capture, task, found, preset=preset)
        else:
            leak = self._referee.score(
                capture,
                planned.tasks,
                planned.truth,
                found,
                preset=preset,
                order_known=order is not None and len(order) > 1,
                histories=histories,
            )
        return _with_power(leak, planned.powers, planned.tuning)

    def skipped(
        self,
        capture: Capture,
        settings: Reconstruct,
        histories: Mapping[int, History],
        reason: str,
        *,
        scenario: Scenario | None = None,
    ) -> Leak:
        """Rows of a capture that was not attacked, so that its images are counted.

        Args:
            capture: The captured update.
            settings: Settings of the attack.
            histories: Privacy histories by client.
            reason: The reason why the capture was not attacked, in one sentence.
            scenario: Scenario as it was in the round, if it was toggled since.
        """
        honest = capture.facts.malicious is None
        truth = None  # without a replay nobody knows which images are behind the capture
        with suppress(ValueError, NetworkFailed), naming_network(self._federated.network):
            truth = self._truth(capture, scenario, histories)
            capture = singled_out(capture)
        tasks = self._tasks(capture, scenario)
        return skipped_leak(
            capture,
            tasks,
            truth,
            preset=_attack_name(capture, settings),
            labels_known=honest and settings.labels == "known",
            order_known=honest and settings.order == "known" and capture.payload.steps > 1,
            reason=reason,
        )

    @_NAMES
    def consistency(
        self,
        capture: Capture,
        histories: Mapping[int, History],
        *,
        scenario: Scenario | None = None,
    ) -> Consistency:
        """Compare a capture with the attacker's simulation of the client on the true images.

        Args:
            capture: The captured update.
            histories: Privacy histories by client.
            scenario: Scenario as it was in the round, if it was toggled since.

        Raises:
            ValueError: If the true batch was empty, or the payload cannot be simulated.
        """
        truth = self._truth(capture, scenario, histories)
        capture = singled_out(capture)
        return self.attacker.consistency(
            capture, self._federated.data.normalise(truth.inputs), truth.labels, truth.order
        )

    @_NAMES
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
        """Run a membership inference attack on a capture and score it.

        Args:
            capture: The captured update.
            histories: Privacy histories by client.
            test: Statistic that decides about an image.
            non_members: Largest number of test images to use as non-members.
            shadows: Number of LiRA's shadow clients, an even number.
            scenario: Scenario as it was in the round, if it was toggled since.

        Raises:
            ValueError: If there is no image behind the capture, or ``shadows`` is odd.
        """
        truth = self._truth(capture, scenario, histories)
        capture = singled_out(capture)
        return membership(
            capture,
            truth,
            self._federated,
            self.attacker.model,
            test=test,
            non_members=non_members,
            shadows=shadows,
            generator=generator(self._scenario.seed, "membership", capture.round, *capture.clients),
        )

    def _truth(
        self,
        capture: Capture,
        scenario: Scenario | None,
        histories: Mapping[int, History],
    ) -> Truth:
        """The images behind a capture; each capture is replayed once.

        Raises:
            ValueError: In a deployment, where the images are with the clients.
        """
        if self._scenario.engine.deployed:
            raise ValueError("the true images are with the client, so nothing can be compared")
        before, tasks = _before(histories, capture.round), self._tasks(capture, scenario)
        key = (
            capture.round,
            capture.clients,
            capture.global_digest,
            capture.reply_digest,
            *(task.model_dump_json() for task in tasks.values()),
            *(before.get(client, ()) for client in capture.clients),
        )
        if key not in self._truths:
            truth = replay(self._federated, capture, tasks, before)
            if truth.payload_cosine < CONSISTENT and not truth.noisy:
                log.warning(
                    "round %d: the update of %s differs from its replay (cosine %.4f), so its "
                    "scores compare with images that may not be behind it",
                    capture.round,
                    capture.of,
                    truth.payload_cosine,
                )
            while len(self._truths) >= CACHED:
                self._truths.pop(next(iter(self._truths)))
            self._truths[key] = truth
        return self._truths[key]

    def _tasks(self, capture: Capture, scenario: Scenario | None) -> dict[int, ClientTask]:
        return {
            client: task_for(
                scenario or self._scenario,
                round=capture.round,
                client=client,
                proximal_mu=capture.facts.proximal_mu,
            )
            for client in capture.clients
        }


@dataclass(frozen=True)
class _Planned:
    """An attack that is to be carried out, and what scores it."""

    tasks: Mapping[int, ClientTask]
    truth: Truth | None
    tuning: Tuning | None
    powers: Mapping[int, float]
    job: AttackJob


def _tried(call: Callable[[], T]) -> T | ValueError | NetworkFailed:
    """What a call returns, or why an attack cannot be made or scored."""
    try:
        return call()
    except (ValueError, NetworkFailed) as error:
        return error


def _with_power(leak: Leak, powers: Mapping[int, float], tuning: Tuning | None) -> Leak:
    """The leak with the power of its attack by client; without power nothing is ``not shown``."""
    rows = [
        replace(
            row,
            power=powers[row.client],
            tuning_seconds=0.0 if tuning is None else tuning.seconds,
            choice="" if tuning is None else tuning.choice,
            verdict=INCONCLUSIVE
            if row.verdict == NOT_SHOWN and powers[row.client] < POWERFUL
            else row.verdict,
        )
        for row in leak.rows
    ]
    return replace(leak, rows=tuple(rows))


def _attack_name(capture: Capture, entry: Reconstruct) -> str:
    """The preset, or the tampering after which images are read out without one."""
    malicious = capture.facts.malicious
    return malicious if malicious is not None and malicious in READ_OUT else entry.preset


def _beyond_read_out(capture: Capture, settings: Reconstruct, defenses: Sequence[Defense]) -> bool:
    """True if a defense may change what trap weights caught, to which their read-out cannot adapt.

    Nothing is then called ``not shown``, as the images may be there for a better reader. The
    read-out adapts to Gaussian noise of known deviation, which momentum makes larger than stated.
    """
    if capture.facts.malicious != TRAPPED:
        return False
    known = settings.adapt and not (capture.facts.momentum and capture.payload.steps > 1)
    return not all(
        each.sums_updates or each.inspects_update or (known and each.states_noise)
        for each in defenses
    )


def _check_fished_class(capture: Capture, truth: Truth) -> None:
    """Raise an error if no image of the batch is of the class that the server fished for."""
    target, labels = capture.facts.target, truth.labels
    if target is None:
        return
    if not (labels[:, target] > 0 if labels.is_floating_point() else labels == target).any():
        raise ValueError(f"the server fished for class {target}, of which its batch has no image")


def _before(histories: Mapping[int, History], round: int) -> dict[int, History]:
    """Histories before the replies of a round that counted, which key the noise of those replies.

    A round that failed and was run again has several entries; the last of them counted.
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

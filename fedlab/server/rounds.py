"""One federated round after another, over any Flower Grid.

Flower's own ``Strategy.start`` always begins at round 1 and can neither step, toggle nor resume.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from flwr.app import Message
from flwr.serverapp import Grid
from torch import Tensor

from fedlab.core.digest import shared_digest
from fedlab.core.errors import BadInput
from fedlab.privacy.release import History, before_last
from fedlab.privacy.unanswered import Unanswered, continued
from fedlab.protocol.abstention import Abstention
from fedlab.protocol.declared_cost import PublicSizes, expected_cost
from fedlab.protocol.planning import sample_cohort, task_for
from fedlab.protocol.reply import Expected, Reply
from fedlab.protocol.round_facts import scheduled_facts, summed_facts, suppressed_facts
from fedlab.protocol.task import ClientTask
from fedlab.protocol.terms import Terms
from fedlab.scenario.roles import Leaking
from fedlab.scenario.scenario import Scenario
from fedlab.server.aggregation import Aggregate, Aggregation, WeightedUpdate
from fedlab.server.captures import Capture
from fedlab.server.reply_collection import Known, ReplyCollection, collect_replies
from fedlab.server.secure_sum import Part, counts_equally, members, summed, too_few
from fedlab.server.spectrum import change_ranks, refuse_without_kernels
from fedlab.server.suppression import part_of_target, target_of
from fedlab.server.tampering import imprint_block, refuse_impossible_fishing, states_to_send
from fedlab.server.transport import State, Transport
from fedlab.server.trap_weights import MakeTraps

RootUpdate = Callable[[int, State], State]
"""Training on the server's root images: from a round and the global state to a new state."""


@dataclass(frozen=True)
class Round:
    """One round as the server saw it.

    Attributes:
        number: Round number, counted from 1.
        tasks: Task of each sampled client.
        captures: Captures of what the server saw, in order of the clients: one for each client
            whose reply passed the checks, and one for all clients in secure aggregation together.
            Their global arrays are those that these clients were sent.
        accepted: Clients whose replies passed the checks.
        declined: Abstentions of clients that sent nothing.
        refused: Reasons why the replies of the other clients were not used.
        histories: Privacy histories of all clients that sent anything, refused ones included, since
            the server saw what they sent. Where a history cannot be believed, the release counts
            as unprotected.
        state: New global parameters and buffers.
        selected: True for each accepted client whose reply the aggregation rule used; empty if the
            rule does not choose among replies.
    """

    number: int
    tasks: Mapping[int, ClientTask]
    captures: tuple[Capture, ...]
    accepted: frozenset[int]
    declined: Mapping[int, Abstention]
    refused: Mapping[int, str]
    histories: Mapping[int, History]
    state: State
    selected: Mapping[int, bool]


@dataclass(frozen=True)
class _Seen:
    """A capture and its part in the aggregate."""

    capture: Capture
    part: Part


class RoundLoop:
    """The server's side of a federation.

    A malicious server that fishes for a class or sets traps leaves the replies of the clients that
    it tampers with out of the aggregate, since they start from weights that no training gives. If
    these are all clients of a round, the global state stays as it is. One that suppresses gradients
    counts the sum as if suppressed clients had changed nothing.

    Args:
        grid: Grid that carries the messages.
        state: Initial global parameters and buffers, on the CPU.
        parameters: The names in ``state`` that are parameters; the others are buffers.
        scenario: The experiment, for the aggregation rule and the number of clients.
        root_update: Training on the server's root images, for a rule that needs it.
        sizes: Public numbers about the clients' images, by which the server computes what each
            round costs. Without them it checks mechanisms and noise only.
        terms: Terms of a deployment, whose clients state their own numbers of images; ``None`` in a
            simulation.
        make_traps: Maker of trap weights, where the scenario has them.

    Raises:
        BadInput: If the aggregation rule cannot be made or lacks what it needs, or the network has
            no last layer for class fishing.
    """

    def __init__(
        self,
        grid: Grid,
        state: State,
        parameters: Sequence[str],
        scenario: Scenario,
        *,
        root_update: RootUpdate | None = None,
        sizes: PublicSizes | None = None,
        terms: Terms | None = None,
        make_traps: MakeTraps | None = None,
    ) -> None:
        self._transport = Transport(grid, terms)
        self._parameters = tuple(parameters)
        self.histories: dict[int, History] = {}
        self._unanswered = Unanswered()
        self._sizes = sizes
        if terms is not None:
            self._sizes = PublicSizes(self._transport.images, math.prod(terms.shape))
        self._deployed = terms is not None
        # Clients that have to hear how the server counts their rounds.
        self._disputed: set[int] = set()
        self.state = dict(state)
        self.aggregation = Aggregation.of(scenario)
        self._root_update = root_update
        self._make_traps = make_traps
        if self.aggregation.needs_root and root_update is None:
            raise BadInput(f"{scenario.server.strategy} needs root images of the server's own")
        if self.aggregation.compares_changes and len(self._averaged(scenario)) > len(parameters):
            raise BadInput(
                f"{scenario.server.strategy} compares changes of the model, which BatchNorm's "
                'statistics outweigh: set training.share_buffers = false or model.norm = "group"'
            )
        self._imprint = imprint_block(scenario, state)
        refuse_impossible_fishing(scenario, state, parameters)
        refuse_without_kernels(scenario.server.rank, state, parameters)

    def step(
        self,
        scenario: Scenario,
        round: int,
        resumed: Mapping[int, History] | None = None,
        *,
        on_asked: Callable[[Mapping[int, History]], None] = lambda _: None,
        on_spent: Callable[[Mapping[int, History]], None] = lambda _: None,
    ) -> Round:
        """Run one round.

        Args:
            scenario: The experiment; it may differ from that of the round before in roles,
                defenses and reconstructions.
            round: Round number, counted from 1.
            resumed: Privacy histories to send to the clients, in the first round after a resume.
            on_asked: Called in a deployment with what the tasks will cost, before they are sent:
                if the server dies, the replies may have been sent nevertheless.
            on_spent: Called with what clients spent as soon as their replies arrive, before
                anything else is done with them.

        Raises:
            RunFailed: If all clients fail, or more than the scenario allows.
        """
        averaged = self._averaged(scenario)
        tasks = self._plan(scenario, round, averaged, resumed)
        sent = states_to_send(
            scenario,
            tasks,
            self.state,
            self._parameters,
            images={} if self._sizes is None else self._sizes.images,
            make_traps=self._make_traps,
        )
        tasks = _with_hashes(tasks, sent)
        if self._deployed:
            costs = self._expected_costs(scenario, tasks)
            on_asked(costs)
            self._unanswered.ask(costs)
        messages = self._transport.exchange(
            tasks, sent, reply_timeout=scenario.server.reply_timeout
        )
        known = self.histories
        replies = collect_replies(messages, tasks, self._known(scenario))
        spent = {each: h[len(known.get(each, ())) :] for each, h in replies.histories.items()}
        if self._deployed:
            spent |= dict.fromkeys(replies.failed, ())
            self._unanswered.answer(spent)
        on_spent(spent)
        self.histories = known | replies.histories
        self._disputed = self._disputed - set(replies.histories) | replies.disputed
        together = _summed_clients(scenario, tasks, replies)
        replies.check_failures(scenario.server.max_failures)
        seen = self._look(replies.replies, tasks, sent, averaged, scenario, together)
        # A reply to weights that were tampered with is a step from a model that no training gives.
        counted = [each for each in seen if each.capture.global_state is self.state]
        result = self._aggregate(counted, messages, scenario, round)
        rank = scenario.server.rank
        if rank is not None and result.arrays and round % rank.every == 0:
            result = replace(result, arrays=change_ranks(result.arrays, self._parameters, rank))
        self.state = {**self.state, **result.arrays, **self._imprint}
        return Round(
            number=round,
            tasks=tasks,
            captures=tuple(each.capture for each in seen),
            accepted=frozenset(client for each in seen for client in each.capture.clients),
            declined=replies.declined,
            refused=replies.refused,
            histories=replies.histories,
            state=self.state,
            selected=_selected(counted, result),
        )

    @property
    def accounted(self) -> dict[int, History]:
        """Privacy histories of all clients, and the costs of tasks that nobody answered."""
        return continued(self.histories, self._unanswered.beyond(self.histories))

    def _expected_costs(
        self, scenario: Scenario, tasks: Mapping[int, ClientTask]
    ) -> dict[int, History]:
        """What the clients that are there will spend, if they do what they are asked."""
        buffers = bool(self._known(scenario).expected.buffers)
        before = self.accounted
        return {
            client: expected_cost(task, before.get(client, ()), sizes=self._sizes, buffers=buffers)
            for client, task in tasks.items()
            if client in self._transport.there
        }

    def _plan(
        self,
        scenario: Scenario,
        round: int,
        averaged: State,
        resumed: Mapping[int, History] | None,
    ) -> dict[int, ClientTask]:
        """Sample the cohort, let the aggregation rule prepare the round, and make the tasks."""
        nodes = self._transport.nodes(scenario.data.clients, fewest=scenario.server.min_clients)
        cohort = sample_cohort(scenario, round)
        config = self.aggregation.configure(
            round,
            averaged,
            self._transport.grid,
            # A rule prepares a round for some node, even if the whole cohort is gone.
            [nodes[each] for each in cohort if each in nodes] or list(nodes.values()),
        )
        # A SuperNode that was started anew has forgotten what its client spent.
        remind = self.histories if self._deployed else self._disputed
        unanswered = self._unanswered.beyond(self.histories)
        owed = {client: self.histories.get(client, ()) for client in (*remind, *unanswered)}
        owed |= {} if resumed is None else {c: resumed.get(c, ()) for c in cohort}
        # Only FedProx sends its clients a setting, under this key.
        proximal_mu = cast(float, config.get("proximal-mu", 0.0))
        return {
            client: task_for(
                scenario,
                round=round,
                client=client,
                proximal_mu=proximal_mu,
                history=owed.get(client),
                unanswered=unanswered.get(client, ()),
            )
            for client in cohort
        }

    def _look(
        self,
        replies: Mapping[int, Reply],
        tasks: Mapping[int, ClientTask],
        sent: Mapping[int, State],
        averaged: Iterable[str],
        scenario: Scenario,
        together: Sequence[int],
    ) -> list[_Seen]:
        """Captures of what the server sees: single replies, and the sum of secure aggregation."""
        parts = {
            client: Part(reply.sent, _model(reply, sent[client], tasks[client].lr, averaged))
            for client, reply in replies.items()
        }
        before = {client: before_last(reply.history) for client, reply in replies.items()}
        round = next(iter(tasks.values())).round
        seen = []
        if together:
            each = {
                client: scheduled_facts(tasks[client], scenario, before[client])
                for client in together
            }
            equally = counts_equally(tasks[client] for client in together)
            whole = summed([parts[client] for client in together], averaged, equally=equally)
            facts, target = summed_facts(list(each.values())), target_of(scenario, tasks)
            start = sent[together[0]]  # the same for all, but under suppression
            if target is not None:
                single = isinstance(tasks[target].role, Leaking)
                facts = suppressed_facts(each, target=target, single_batch=single)
                facts = replace(facts, share=1 / len(together) if equally else None)
                start = self.state
            capture = Capture(round, tuple(together), start, whole.payload, facts)
            part = whole if target is None else part_of_target(capture, whole)
            seen.append(_Seen(capture, part))
        for client in sorted(set(parts) - set(together)):
            facts = scheduled_facts(tasks[client], scenario, before[client])
            capture = Capture(round, (client,), sent[client], parts[client].payload, facts)
            seen.append(_Seen(capture, parts[client]))
        return sorted(seen, key=lambda each: each.capture.clients)

    def _aggregate(
        self,
        counted: Sequence[_Seen],
        messages: Mapping[int, Message],
        scenario: Scenario,
        round: int,
    ) -> Aggregate:
        """Apply the aggregation rule to the replies that count, if there are any."""
        if not counted:
            return Aggregate({}, None)
        most = scenario.server.cap_examples
        updates = [
            WeightedUpdate(
                messages[each.capture.clients[0]],
                min(each.part.payload.num_examples, most or each.part.payload.num_examples),
                each.part.model,
                each.capture.clients[0],
            )
            for each in counted
        ]
        root = None
        if self._root_update and self.aggregation.needs_root:
            root = self._root_update(round, self.state)
        return self.aggregation.aggregate(round, updates, root=root)

    def _averaged(self, scenario: Scenario) -> dict[str, Tensor]:
        """The part of the global state that clients send back and the rule combines."""
        return {
            name: value
            for name, value in self.state.items()
            if name in self._parameters
            or (scenario.training.share_buffers and value.is_floating_point())
        }

    def _known(self, scenario: Scenario) -> Known:
        averaged = self._averaged(scenario)
        shared = {n: v for n, v in self.state.items() if n not in self._parameters}
        expected = Expected(
            parameters={name: averaged[name] for name in self._parameters},
            buffers=shared if scenario.training.share_buffers else {},
            max_examples=scenario.server.max_examples,
        )

        def task_in(round: int, client: int) -> ClientTask:
            return task_for(scenario, round=round, client=client)

        there = self._transport.there
        unanswered = self._unanswered.beyond(self.histories)
        return Known(expected, self.histories, task_in, self._sizes, there, unanswered)


def _with_hashes(
    tasks: Mapping[int, ClientTask], sent: Mapping[int, State]
) -> dict[int, ClientTask]:
    """The tasks with the hashes of what is sent to the clients that publish them."""
    publish = [
        client
        for client, task in tasks.items()
        if any(entry.publishes_hashes for entry in task.defenses)
    ]
    hashes = tuple({shared_digest(sent[client]): None for client in publish})
    return {
        client: task.model_copy(update={"published": hashes}) if client in publish else task
        for client, task in tasks.items()
    }


def _summed_clients(
    scenario: Scenario, tasks: Mapping[int, ClientTask], collection: ReplyCollection
) -> tuple[int, ...]:
    """Clients whose replies are seen only as a sum; too few to hide each other are dropped."""
    together = members(scenario, round=collection.round, clients=collection.replies)
    reason = too_few([tasks[client] for client in together])
    if reason is None:
        return together
    collection.drop(together, reason)
    return ()


def _model(reply: Reply, sent: State, lr: float, averaged: Iterable[str]) -> dict[str, Tensor]:
    """A client's part in the average, in the order in which Flower's rules read arrays."""
    model = reply.sent.as_weights(sent, lr=lr) | dict(reply.buffers)
    return {name: model[name] for name in averaged}


def _selected(counted: Sequence[_Seen], result: Aggregate) -> dict[int, bool]:
    if result.used is None:
        return {}
    return {
        client: place in result.used
        for place, each in enumerate(counted)
        for client in each.capture.clients
    }

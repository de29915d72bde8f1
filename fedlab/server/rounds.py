"""One federated round after another, over any Flower Grid.

Flower's own ``Strategy.start`` always begins at round 1 and cannot step, toggle or resume.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from attacks.malicious_server.fishing import fish_class, last_layer
from attacks.malicious_server.imprint import BLOCK
from fedlab.core.errors import BadInput, RunFailed
from fedlab.privacy.release import History, before_last
from fedlab.protocol.planning import sample_cohort, task_for
from fedlab.protocol.reply import FACTS
from fedlab.protocol.round_facts import scheduled_facts, summed_facts
from fedlab.protocol.task import ClientTask
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import ClassFishing, Imprint
from fedlab.server.aggregation import Aggregate, Aggregation, WeightedUpdate
from fedlab.server.captures import Capture
from fedlab.server.checks import Expected, Reply, Unsent
from fedlab.server.reply_collection import take_in
from fedlab.server.secure_sum import LEAST, Part, members, summed

PATIENCE = 600.0
"""Seconds to wait for nodes to appear, and for their introductions."""

State = Mapping[str, Tensor]
"""Parameters and buffers by name."""

RootUpdate = Callable[[int, State], State]
"""What the server trains itself: from a round and the global state to a new one."""


@dataclass(frozen=True)
class Round:
    """What happened in a round on the server's side.

    Attributes:
        number: Counted from 1.
        tasks: What each sampled client was asked to do.
        captures: What the server saw, in order of the clients: of each whose reply passed the
            checks, or of all in secure aggregation together. The global arrays in it are those
            that these clients were sent.
        accepted: Clients whose replies passed the checks.
        declined: Clients that declined to send anything, and why.
        refused: Why the others' replies were not used.
        histories: Accountant histories of the clients that replied; those that were refused
            too, since the server saw what they sent. Where a history cannot be believed, what was
            sent counts as open.
        state: The new global parameters and buffers.
        selected: Whether the strategy let in what an accepted client sent; empty where it does not
            choose among replies.
    """

    number: int
    tasks: Mapping[int, ClientTask]
    captures: tuple[Capture, ...]
    accepted: frozenset[int]
    declined: Mapping[int, Unsent]
    refused: Mapping[int, str]
    histories: Mapping[int, History]
    state: Mapping[str, Tensor]
    selected: Mapping[int, bool]


@dataclass(frozen=True)
class _Seen:
    """A Capture, and its part in the aggregate."""

    capture: Capture
    part: Part


class RoundLoop:
    """The server's side of a federation.

    A malicious server sends fished parameters to the clients that it fishes, and leaves their
    replies out of the aggregate: they are steps from weights that no training gives. If all of a
    round were fished, the global state stays as it is. An imprint block is put back to how it was
    made after every round, since a single step of training would blur it.

    Args:
        grid: Carries the messages.
        state: The initial global parameters and buffers, on the CPU.
        parameters: Names in ``state`` that are parameters; the others are buffers.
        scenario: For the strategy and the number of clients.
        root_update: From the number of a round and the global state to that state after training
            on images of the server's own, for a strategy that compares replies with it.

    Raises:
        BadInput: If the strategy cannot be made or lacks what it needs, or the network has no last
            layer to fish with.
    """

    def __init__(
        self,
        grid: Grid,
        state: Mapping[str, Tensor],
        parameters: Sequence[str],
        scenario: Scenario,
        *,
        root_update: RootUpdate | None = None,
    ) -> None:
        self._grid = grid
        self._parameters = tuple(parameters)
        self._nodes: dict[int, int] = {}
        self.histories: dict[int, History] = {}
        self.state = dict(state)
        self.aggregation = Aggregation.of(scenario)
        self._root_update = root_update
        if self.aggregation.needs_root and root_update is None:
            raise BadInput(f"{scenario.server.strategy} needs root images of the server's own")
        if self.aggregation.compares_changes and len(self._averaged(scenario)) > len(parameters):
            raise BadInput(
                f"{scenario.server.strategy} compares changes of the model, which BatchNorm's "
                'statistics outweigh: set training.share_buffers = false or model.norm = "group"'
            )
        malicious = scenario.server.malicious
        self._trap = {
            name: value
            for name, value in state.items()
            if isinstance(malicious, Imprint) and name.startswith(f"{BLOCK}.")
        }
        if isinstance(malicious, ClassFishing):
            try:
                self._fished(malicious)
            except ValueError as error:
                raise BadInput(f"server.malicious: {error}") from error

    def step(
        self,
        scenario: Scenario,
        round: int,
        resumed: Mapping[int, History] | None = None,
        *,
        on_spent: Callable[[Mapping[int, History]], None] = lambda _: None,
    ) -> Round:
        """Run one round.

        Args:
            scenario: May differ from the one before in roles, defenses and reconstructions.
            round: Counted from 1.
            resumed: Histories to hand to the clients, in the first round after a resume.
            on_spent: Told what clients spent as soon as their replies are here, before anything is
                done with them.

        Raises:
            RunFailed: If all clients fail, or more than the scenario lets.
        """
        nodes = self._introductions(scenario.data.clients)
        cohort = sample_cohort(scenario, round)
        averaged = self._averaged(scenario)
        config = self.aggregation.configure(
            round, averaged, self._grid, [nodes[client] for client in cohort]
        )
        # FedProx tells its clients by this key; every other strategy leaves it out.
        proximal_mu = cast(float, config.get("proximal-mu", 0.0))
        tasks = {
            client: task_for(
                scenario,
                round=round,
                client=client,
                proximal_mu=proximal_mu,
                history=None if resumed is None else resumed.get(client, ()),
            )
            for client in cohort
        }
        sent = self._sent(tasks, scenario)
        messages = self._exchange(tasks, nodes, sent)
        known = self.histories
        intake = take_in(messages, tasks, expected=self._expected(scenario), known=known)
        on_spent({each: h[len(known.get(each, ())) :] for each, h in intake.histories.items()})
        self.histories = known | intake.histories
        together = members(scenario, round=round, clients=intake.replies)
        if len(together) < LEAST:
            intake.leave_out(together)
            together = ()
        intake.refuse_to_go_on(scenario.server.max_failures)
        seen = self._seen(intake.replies, tasks, sent, averaged, scenario, together)
        # Replies to weights that were fished are steps from no model that training gives.
        counted = [each for each in seen if each.capture.global_state is self.state]
        outcome = self._aggregated(counted, messages, scenario, round)
        self.state = {**self.state, **outcome.arrays, **self._trap}
        return Round(
            number=round,
            tasks=tasks,
            captures=tuple(each.capture for each in seen),
            accepted=frozenset(client for each in seen for client in each.capture.clients),
            declined=intake.declined,
            refused=intake.refused,
            histories=intake.histories,
            state=self.state,
            selected={
                client: place in outcome.used
                for place, each in enumerate(counted)
                for client in each.capture.clients
            }
            if outcome.used is not None
            else {},
        )

    def _aggregated(
        self,
        counted: Sequence["_Seen"],
        messages: Mapping[int, Message],
        scenario: Scenario,
        round: int,
    ) -> Aggregate:
        """What the strategy makes of the replies that count, if there are any."""
        if not counted:
            return Aggregate({}, None)
        most = scenario.server.cap_examples
        votes = [
            WeightedUpdate(
                messages[each.capture.clients[0]],
                min(each.part.payload.num_examples, most or each.part.payload.num_examples),
                each.part.model,
            )
            for each in counted
        ]
        root = None
        if self._root_update and self.aggregation.needs_root:
            root = self._root_update(round, self.state)
        return self.aggregation.aggregate(round, votes, root=root)

    def _seen(
        self,
        replies: Mapping[int, Reply],
        tasks: Mapping[int, ClientTask],
        sent: Mapping[int, State],
        averaged: Iterable[str],
        scenario: Scenario,
        together: Sequence[int],
    ) -> list["_Seen"]:
        """What the server looks at: single replies, or the sum of those in secure aggregation."""
        parts = {
            client: Part(reply.payload, self._model(reply, tasks[client].lr, averaged))
            for client, reply in replies.items()
        }
        before = {client: before_last(reply.history) for client, reply in replies.items()}
        round = next(iter(tasks.values())).round
        seen = []
        if together:
            told = summed_facts([tasks[client] for client in together], scenario, before)
            whole = summed([parts[client] for client in together], averaged)
            capture = Capture(round, tuple(together), self.state, whole.payload, told)
            seen.append(_Seen(capture, whole))
        for client in sorted(set(parts) - set(together)):
            told = scheduled_facts(tasks[client], scenario, before[client])
            capture = Capture(round, (client,), sent[client], parts[client].payload, told)
            seen.append(_Seen(capture, parts[client]))
        return sorted(seen, key=lambda each: each.capture.clients)

    def _introductions(self, clients: int) -> dict[int, int]:
        """Node of every partition; asked once, since node ids are random."""
        deadline = time.monotonic() + PATIENCE
        while len(nodes := list(self._grid.get_node_ids())) < clients:
            if time.monotonic() > deadline:
                raise RunFailed(f"only {len(nodes)} of {clients} clients appeared")
            time.sleep(0.1)  # Flower starts the server before the nodes are registered
        known = set(self._nodes.values())
        if unknown := [node for node in nodes if node not in known]:
            questions = [Message(RecordDict(), node, MessageType.QUERY) for node in unknown]
            for answer in self._grid.send_and_receive(questions, timeout=PATIENCE):
                if answer.has_error():
                    raise RunFailed(f"a client could not introduce itself: {answer.error.reason}")
                partition = cast(int, answer.content.metric_records[FACTS]["partition-id"])
                self._nodes[partition] = answer.metadata.src_node_id
        if missing := sorted(set(range(clients)) - set(self._nodes)):
            raise RunFailed(f"no node holds partition {missing[0]}")
        return self._nodes

    def _averaged(self, scenario: Scenario) -> dict[str, Tensor]:
        """The part of the global state that clients send back and the strategy combines."""
        return {
            name: value
            for name, value in self.state.items()
            if name in self._parameters
            or (scenario.training.share_buffers and value.is_floating_point())
        }

    def _model(self, reply: Reply, lr: float, averaged: Iterable[str]) -> dict[str, Tensor]:
        """A client's part in the average, in the order that Flower's rules go by."""
        model = reply.payload.as_weights(self.state, lr=lr) | dict(reply.buffers)
        return {name: model[name] for name in averaged}

    def _sent(self, tasks: Mapping[int, ClientTask], scenario: Scenario) -> dict[int, State]:
        """What each client is sent: the global state itself, or a fished one."""
        malice = {
            client: scenario.malicious_attack(round=task.round, client=client)
            for client, task in tasks.items()
        }
        fishing = next((each for each in malice.values() if isinstance(each, ClassFishing)), None)
        fished = self._fished(fishing) if fishing else self.state
        return {
            client: fished if isinstance(each, ClassFishing) else self.state
            for client, each in malice.items()
        }

    def _fished(self, fishing: ClassFishing) -> dict[str, Tensor]:
        """The global state with a last layer that one class alone gets through."""
        parameters = {name: self.state[name] for name in self._parameters}
        weight, bias = last_layer(parameters)
        fished = fish_class(parameters, weight=weight, bias=bias, target=fishing.target)
        return {**self.state, **fished}

    def _exchange(
        self, tasks: Mapping[int, ClientTask], nodes: Mapping[int, int], sent: Mapping[int, State]
    ) -> dict[int, Message]:
        # Converted once for all clients that are sent the same.
        arrays = {
            id(state): ArrayRecord({name: Array(value.numpy()) for name, value in state.items()})
            for state in {id(state): state for state in sent.values()}.values()
        }
        messages = [
            Message(
                RecordDict(
                    {
                        "arrays": arrays[id(sent[client])],
                        "config": ConfigRecord({"plan": task.model_dump_json(exclude_none=True)}),
                    }
                ),
                nodes[client],
                MessageType.TRAIN,
            )
            for client, task in tasks.items()
        ]
        partition = {node: client for client, node in nodes.items()}
        replies = {
            partition[reply.metadata.src_node_id]: reply
            for reply in self._grid.send_and_receive(messages)
        }
        # Replies arrive in any order, and sums of floats depend on it.
        return dict(sorted(replies.items()))

    def _expected(self, scenario: Scenario) -> Expected:
        averaged = self._averaged(scenario)
        shared = {n: v for n, v in self.state.items() if n not in self._parameters}
        return Expected(
            parameters={name: averaged[name] for name in self._parameters},
            buffers=shared if scenario.training.share_buffers else {},
            max_examples=scenario.server.max_examples,
        )
